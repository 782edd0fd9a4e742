/* Faults of disk and clock for one process, preloaded into it.
 *
 * RAFTMQ_CHAOS_SHIM names a file of 4096 bytes that the experiment and the process both map. The experiment writes what
 * is to happen into the first half, this library counts what has happened in the second: the proof that a fault fired.
 *
 *   cell  0  how many of the next syncs fail with EIO           cell 16  syncs that failed
 *   cell  1  microseconds that each sync takes longer           cell 17  syncs that took longer
 *   cell  2  nanoseconds added to the wall clock                cell 18  readings of the clock that were changed
 *   cell  3  how many of the next reads of data fail with EIO   cell 19  reads that failed
 *   cell  4  microseconds that each read of data takes longer   cell 20  reads that took longer
 *   cell  5  SIGKILL before the n-th sync from now              cell 21  1 for each death below
 *   cell  6  SIGKILL after the n-th sync from now
 *   cell  7  SIGKILL half way through the n-th write to a write-ahead log from now
 *   cell  8  the clocks' rate, in millionths more than true     cell 22  readings at another rate
 *   cell  9  1: there is no room for data (ENOSPC)              cell 23  writes that found none
 *
 *                                                               cell 24  writes over synced bytes that were not kept
 *
 * "Data" are RocksDB's tables, blobs and write-ahead logs, known by their names. Clocks that ran at another rate keep
 * what they gained, for a monotonic clock must not go back; a new process starts with true ones.
 *
 * RAFTMQ_CHAOS_SYNCED, where it is set, names a table of files that both map, too: of each that was written, up to what
 * length it is synced; and bytes that were synced and are written over lie in a file beside it (".undo"). So whoever
 * kills the process can take back all that was not synced, as a power cut does. See unsynced.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    FAIL_SYNCS = 0, SLOW_SYNC_US = 1, CLOCK_NS = 2, FAIL_READS = 3, SLOW_READ_US = 4,
    DIE_BEFORE_SYNC = 5, DIE_AFTER_SYNC = 6, DIE_IN_WRITE = 7, CLOCK_RATE_PPM = 8,
    NO_SPACE = 9,
    FAILED = 16, SLOWED = 17, CHANGED = 18, READS_FAILED = 19, READS_SLOWED = 20, DIED = 21, RATED = 22,
    REFUSED = 23, NOT_KEPT = 24,
    FILES = 8192
};
static const int64_t SECOND = 1000000000;

static volatile int64_t idle[512];
static volatile int64_t *cells = idle;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

/* One file: up to what length it is synced (-1: not known yet), and how often it has been. An inode of 0 is a free row. */
struct file_row {
    int64_t inode, length, syncs, spare;
};
static struct file_row *table;
static int undo = -1;
static volatile int table_lock;

static void *map(const char *path, size_t bytes) {
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return mapped == MAP_FAILED ? NULL : mapped;
}

__attribute__((constructor)) static void attach(void) {
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    void *mapped = map(getenv("RAFTMQ_CHAOS_SHIM"), 4096);
    if (mapped)
        cells = mapped;
    const char *path = getenv("RAFTMQ_CHAOS_SYNCED");
    char beside[4096];
    table = map(path, FILES * sizeof(struct file_row));
    if (table && snprintf(beside, sizeof beside, "%s.undo", path) < (int)sizeof beside)
        undo = open(beside, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* One less in a cell that counts down; 1 where it was not yet at its end. */
static int taken(int cell) {
    int64_t left = cells[cell];
    while (left > 0) {
        if (__sync_bool_compare_and_swap(&cells[cell], left, left - 1))
            return 1;
        left = cells[cell];
    }
    return 0;
}

/* Whether this is the event that the countdown in a cell ends with. */
static int due(int cell) { return cells[cell] > 0 && __sync_sub_and_fetch(&cells[cell], 1) == 0; }

static void linger(int64_t microseconds) {
    struct timespec wait = {microseconds / 1000000, microseconds % 1000000 * 1000};
    while (nanosleep(&wait, &wait) != 0 && errno == EINTR)
        ;
}

static void die(void) {
    __sync_fetch_and_add(&cells[DIED], 1);
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

static int ends_with(const char *name, const char *end) {
    size_t long_one = strlen(name), short_one = strlen(end);
    return long_one >= short_one && strcmp(name + long_one - short_one, end) == 0;
}

/* Whether a descriptor is a file of the database: a write-ahead log, or also a table or blob file. */
static int is_data(int fd, int only_logs) {
    char link[32], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, name, sizeof name - 1);
    if (size <= 0)
        return 0;
    name[size] = 0;
    if (ends_with(name, ".log"))
        return 1;
    return !only_logs && (ends_with(name, ".sst") || ends_with(name, ".blob"));
}

/* -- what is synced -- */

static void lock(volatile int *held) {
    while (__sync_lock_test_and_set(held, 1))
        sched_yield();
}

/* The row of a file, or NULL where there is none and none is free. Under the lock. */
static struct file_row *row_of(int64_t inode) {
    for (int64_t i = 0; i < FILES; i++) {
        struct file_row *row = &table[(uint64_t)(inode + i) % FILES];
        if (row->inode == inode)
            return row;
        if (row->inode == 0) {
            row->length = -1;
            __sync_synchronize();
            row->inode = inode;
            return row;
        }
    }
    return NULL;
}

/* Keep synced bytes that are about to be written over: the row's inode, its number of syncs, where, how many, and what. */
static int keep(int fd, const struct file_row *row, int64_t at, int64_t count) {
    int64_t head[4] = {row->inode, row->syncs, at, count};
    char *record = malloc(sizeof head + count);
    int kept = 0;
    if (record) {
        memcpy(record, head, sizeof head);
        ssize_t size = (ssize_t)sizeof head + count;
        kept = syscall(SYS_pread64, fd, record + sizeof head, count, at) == count &&
               syscall(SYS_write, undo, record, size) == size;
    }
    free(record);
    return kept;
}

/* Before a write of `count` bytes at `at`, or where the descriptor stands (-1). */
static void before_write(int fd, int64_t at, int64_t count) {
    struct stat file;
    if (!table || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))
        return;
    if (at < 0)
        at = fcntl(fd, F_GETFL) & O_APPEND ? file.st_size : lseek(fd, 0, SEEK_CUR);
    lock(&table_lock);
    struct file_row *row = row_of((int64_t)file.st_ino);
    /* A file that is shorter than what was synced of it was cut, or is a new one that has an old one's inode. */
    if (row && (row->length < 0 || row->length > file.st_size)) {
        row->syncs++; /* what was kept of the old one says nothing of this one */
        row->length = file.st_size;
    }
    int64_t over = row ? row->length - at : 1;
    if (over > count)
        over = count;
    if (!row || (over > 0 && !keep(fd, row, at, over)))
        __sync_fetch_and_add(&cells[NOT_KEPT], 1);
    __sync_lock_release(&table_lock);
}

/* How long a file is: all of that is synced when a sync that begins now has ended. -1 where nobody wants to know. */
static int64_t before_sync(int fd) {
    struct stat file;
    return table && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) ? file.st_size : -1;
}

static void after_sync(int fd, int64_t length) {
    struct stat file;
    if (length < 0 || fstat(fd, &file) != 0)
        return;
    lock(&table_lock);
    struct file_row *row = row_of((int64_t)file.st_ino);
    if (row) {
        if (row->length < length)
            row->length = length;
        row->syncs++;
    }
    __sync_lock_release(&table_lock);
}

/* -- syncs -- */

static int synced(int fd, long call) {
    if (cells[SLOW_SYNC_US] > 0) {
        linger(cells[SLOW_SYNC_US]);
        __sync_fetch_and_add(&cells[SLOWED], 1);
    }
    if (taken(FAIL_SYNCS)) {
        __sync_fetch_and_add(&cells[FAILED], 1);
        errno = EIO;
        return -1;
    }
    if (due(DIE_BEFORE_SYNC))
        die();
    int64_t length = before_sync(fd);
    int result = (int)syscall(call, fd);
    if (result == 0)
        after_sync(fd, length);
    if (due(DIE_AFTER_SYNC))
        die();
    return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }

int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* -- writes -- */

ssize_t write(int fd, const void *bytes, size_t count) {
    before_write(fd, -1, (int64_t)count);
    if (cells[DIE_IN_WRITE] > 0 && is_data(fd, 1) && due(DIE_IN_WRITE)) {
        syscall(SYS_write, fd, bytes, count / 2);
        die();
    }
    if (cells[NO_SPACE] > 0 && is_data(fd, 0)) {
        __sync_fetch_and_add(&cells[REFUSED], 1);
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    int64_t count = 0;
    for (int i = 0; i < number; i++)
        count += (int64_t)parts[i].iov_len;
    before_write(fd, -1, count);
    return syscall(SYS_writev, fd, parts, number);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    before_write(fd, at, (int64_t)count);
    return syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    before_write(fd, at, (int64_t)count);
    return syscall(SYS_pwrite64, fd, bytes, count, at);
}

/* -- reads -- */

static int unreadable(int fd) {
    if ((cells[SLOW_READ_US] <= 0 && cells[FAIL_READS] <= 0) || !is_data(fd, 0))
        return 0;
    if (cells[SLOW_READ_US] > 0) {
        linger(cells[SLOW_READ_US]);
        __sync_fetch_and_add(&cells[READS_SLOWED], 1);
    }
    if (!taken(FAIL_READS))
        return 0;
    __sync_fetch_and_add(&cells[READS_FAILED], 1);
    errno = EIO;
    return 1;
}

ssize_t read(int fd, void *bytes, size_t count) { return unreadable(fd) ? -1 : syscall(SYS_read, fd, bytes, count); }

ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
    return unreadable(fd) ? -1 : syscall(SYS_pread64, fd, bytes, count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    return unreadable(fd) ? -1 : syscall(SYS_pread64, fd, bytes, count, at);
}

/* -- clocks -- */

static volatile int clocks_lock;
static int64_t gained; /* nanoseconds that this process's clocks are ahead of true time */
static int64_t seen;   /* true time, up to which that is counted; 0 while the rate is true */

/* How far ahead clocks are at a true time. Under the lock: readings of several threads must not cross. */
static int64_t ahead(int64_t now) {
    int64_t rate = cells[CLOCK_RATE_PPM];
    if (seen != 0 && now > seen) {
        gained += (int64_t)((double)(now - seen) * (double)rate / 1e6);
        __sync_fetch_and_add(&cells[RATED], 1);
    }
    seen = rate == 0 ? 0 : now;
    return gained;
}

static void add(struct timespec *to, int64_t nanoseconds) {
    to->tv_sec += nanoseconds / SECOND;
    to->tv_nsec += nanoseconds % SECOND;
    if (to->tv_nsec >= SECOND) {
        to->tv_sec += 1;
        to->tv_nsec -= SECOND;
    } else if (to->tv_nsec < 0) {
        to->tv_sec -= 1;
        to->tv_nsec += SECOND;
    }
}

static int64_t in_nanoseconds(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

static int true_time(clockid_t clock, struct timespec *now) {
    return real_clock_gettime ? real_clock_gettime(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
}

static int rated_time(clockid_t clock, struct timespec *now) {
    lock(&clocks_lock);
    struct timespec steady;
    int result = true_time(clock, now);
    if (clock == CLOCK_MONOTONIC)
        steady = *now;
    else
        true_time(CLOCK_MONOTONIC, &steady);
    if (result == 0)
        add(now, ahead(in_nanoseconds(&steady)));
    __sync_lock_release(&clocks_lock);
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    int steady = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME;
    int is_rated = (wall || steady) && (cells[CLOCK_RATE_PPM] != 0 || seen != 0 || gained != 0);
    int result = is_rated ? rated_time(clock, now) : true_time(clock, now);
    if (result == 0 && wall && cells[CLOCK_NS] != 0) {
        add(now, cells[CLOCK_NS]);
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
