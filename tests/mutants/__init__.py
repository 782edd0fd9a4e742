"""Known bugs, put back from outside: the proof that simulation and tests find what they are for.

A mutant patches the production code of one process, by ``pytest.MonkeyPatch``; nothing in ``raftmq`` knows of it.

    make mutants                                        # all of them; goes on where it stopped
    python -m tests.mutants --only forget-the-vote      # some of them
    python -m tests.mutants --table                     # write what was found into chaos/README.md
"""
