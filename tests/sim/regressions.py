"""Every seed that ever failed, and why: in raftmq, or in the simulator.

A plan changes with the code that draws it, so that a seed does not show its old failure for ever: the unit tests named
here do. The seeds are run all the same.
"""

from __future__ import annotations

REGRESSIONS: dict[int, str] = {
    9001876: "replica: a replica that a leader had only begun to add took that one for the leader for ever, and the "
    "operation that was to take it away again asked nobody else; tests/replica/test_told_leaders.py: "
    "test_a_replica_that_nobody_talks_to_any_more_is_not",
    771260: "coordinator: a member that did not give up what it was asked for lost all it had while it could take its "
    "session for valid; tests/coordinator/test_coordinator.py: "
    "test_who_does_not_give_up_keeps_what_it_was_told_for_as_long_as_it_may_believe_it",
    10003564: "client: a consumer that was stopped while it asked where to begin told its program that partitions are "
    "its own which were others' since; tests/client/test_expelled.py: "
    "test_whose_session_ran_out_while_it_asked_where_to_begin_takes_nothing_up",
    10003117: "simulator: whoever watched could not look at the log of a store that had failed",
    10000365: "simulator, and experiments: a worker that was stopped while it was told of an extension was taken to "
    "have had the lease until it woke",
    9002112: "simulator: what a partition keeps by size was asked for though its oldest records make room",
    7014308: "client: a publish was told as surely not applied after an attempt that nobody answered, and that got "
    "through; tests/client/test_exchanges.py: "
    "test_a_refusal_does_not_hide_that_an_attempt_after_it_may_have_got_through",
    7018295: "broker: a node that lagged behind denied the first consumer group to a member that had joined it; "
    "tests/broker/test_group_service.py: "
    "test_members_know_better_than_a_node_that_has_not_heard_of_any_group_yet",
    7016465: "simulator: a process that was taken for dead took its instance id back from the one that had succeeded "
    "it, which could not know",
    137: "simulator: of two members that fought over an instance id the one that stayed was fenced by the one that "
    "left, and nobody was there to read",
    3: "client: without idempotence a batch of unknown outcome was sent again when its window was given up; "
    "tests/client/test_producer.py: test_without_idempotence_nothing_is_sent_again_from_the_window_either",
    67: "broker: a node that replayed its metadata denied queue groups that had existed all along; "
    "tests/broker/test_metadata.py: "
    "test_a_node_whose_metadata_is_of_the_past_never_says_that_a_topic_does_not_exist",
    200484: "queues: a record that was held beside the log, and was in it still, was introduced twice, which halted "
    "every replica; tests/replica/test_queue_records.py: test_behind_a_record_that_is_held_comes_the_rest_of_its_batch",
    6: "simulator: a timer in less than a clock can tell came in no time, again and again",
    2000385: "simulator: settings that travelled after the final read made replicas' logs differ for a moment",
    2000969: "controller: a node that was away while another joined and took over the controller never heard of it; "
    "tests/controller/test_acquaintances.py: test_a_node_that_never_heard_of_the_controllers_leader_asks_who_there_is",
    2000689: "simulator: R6 asked the old half of a joint configuration that the leader had left already",
    1003029: "simulator: nobody cancelled operations that waited for a lost disk, which kept its node from repair",
    70007: "replica: what was gathered was appended by a request that was refused itself; it waited for the next event "
    "to be written",
    1038: "simulator: a node that had joined and left again was asked in once more, which is refused for good",
    7002630: "simulator: who was succeeded under its instance id was held to have lost its partitions to that one only",
    5002020: "simulator: the final read was told where a log begins, and then that it does not begin there any more",
    4002555: "queues: while leadership was handed over, rules that the partition had to be told were proposed, and "
    "refused, in every pass of the loop; tests/replica/test_queue_host.py",
    3000143: "client: a member took up what an answer assigned that had been on its way for a whole session; and "
    "simulator: who was told late under an older epoch was taken for the owner; tests/client/test_membership.py",
    3000695: "simulator: what was read in the end and then removed counted twice",
    1029: "simulator: a trim that was under way removed what the final read had begun to read",
    5232: "simulator: a disk that had lost everything counted as whole while its node asked for its cluster anew, and "
    "another one lost its tail beside it",
    9: "simulator: two disks of one group lost their tails, which leaves no majority that may vote",
    10: "simulator: a group of two cannot do without a disk that lost its tail",
    26: "controller: a node that restarted within a term made replicas of deleted topics anew, without their votes; "
    "tests/controller/test_reconciler.py: "
    "test_a_follower_that_restarts_in_the_same_term_replays_to_its_end_first",
    159: "broker: a node that replayed its metadata denied topics that had existed all along; "
    "tests/broker/test_metadata.py: "
    "test_a_node_whose_metadata_is_of_the_past_never_says_that_a_topic_does_not_exist",
    235: "controller: a write that stalled while the formation was written down ended the node; "
    "tests/controller/test_formation.py: "
    "test_a_disk_that_stalls_is_asked_again",
    38: "controller: votes on the metadata were taken from first voters that had yet to register; "
    "tests/metadata/test_voters.py: test_first_voters_that_have_yet_to_register_keep_their_vote",
    86: "simulator: the process on a replaced disk had the name of one on the disk before",
    411: "replica: a node whose replica had moved away forgot who leads the group, and told callers that nobody does; "
    "tests/controller/test_operations.py: "
    "test_a_replica_moves_and_the_old_one_is_deleted",
    212: "replica: one that returned to a disk had forgotten the term and the log of the one before it, and might "
    "have voted for a member that missed its departure; tests/replica/test_departed.py: "
    "test_it_begins_in_the_term_of_the_one_before_and_has_no_vote",
    155: "controller: a move never ended where the controller's leader had lost its own replica of the group; "
    "tests/controller/test_groups.py: "
    "test_the_leader_of_a_group_that_this_node_was_removed_from_is_known_by_notice",
}
