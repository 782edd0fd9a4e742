/* Faults of disk and clock for one process, preloaded into it.
 *
 * RAFTMQ_CHAOS_SHIM names a file of 4096 bytes that the experiment and the process both map. The experiment writes what
 * is to happen into the first half, this library counts what has happened in the second: the proof that a fault fired.
 *
 *   cell  0  how many of the next syncs fail with EIO         cell 16  syncs that failed
 *   cell  1  microseconds that each sync takes longer         cell 17  syncs that took longer
 *   cell  2  nanoseconds added to the wall clock              cell 18  readings of the clock that were changed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { FAIL_SYNCS = 0, SLOW_SYNC_US = 1, CLOCK_NS = 2, FAILED = 16, SLOWED = 17, CHANGED = 18 };

static volatile int64_t idle[512];
static volatile int64_t *cells = idle;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void attach(void) {
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("RAFTMQ_CHAOS_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED)
        cells = mapped;
    close(fd);
}

static int disturbed(void) {
    int64_t slow = cells[SLOW_SYNC_US];
    if (slow > 0) {
        struct timespec wait = {slow / 1000000, slow % 1000000 * 1000};
        while (nanosleep(&wait, &wait) != 0 && errno == EINTR)
            ;
        __sync_fetch_and_add(&cells[SLOWED], 1);
    }
    int64_t left = cells[FAIL_SYNCS];
    while (left > 0) {
        if (__sync_bool_compare_and_swap(&cells[FAIL_SYNCS], left, left - 1)) {
            __sync_fetch_and_add(&cells[FAILED], 1);
            errno = EIO;
            return 1;
        }
        left = cells[FAIL_SYNCS];
    }
    return 0;
}

int fsync(int fd) { return disturbed() ? -1 : (int)syscall(SYS_fsync, fd); }

int fdatasync(int fd) { return disturbed() ? -1 : (int)syscall(SYS_fdatasync, fd); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = real_clock_gettime ? real_clock_gettime(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    int64_t offset = cells[CLOCK_NS];
    if (result == 0 && offset != 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += offset / 1000000000;
        now->tv_nsec += offset % 1000000000;
        if (now->tv_nsec >= 1000000000) {
            now->tv_sec += 1;
            now->tv_nsec -= 1000000000;
        } else if (now->tv_nsec < 0) {
            now->tv_sec -= 1;
            now->tv_nsec += 1000000000;
        }
        __sync_fetch_and_add(&cells[CHANGED], 1);
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    if (result == 0) {
        now->tv_sec = exact.tv_sec;
        now->tv_usec = exact.tv_nsec / 1000;
    }
    return result;
}

time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out)
        *out = exact.tv_sec;
    return exact.tv_sec;
}
