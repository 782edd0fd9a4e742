"""The cluster's mind: how nodes form a cluster, who is alive, what each node must run, where leaders belong.

``formation``   an empty directory never makes itself a voter: how the first cluster comes to be
``joining``     asks until this node belongs to one
``controller``  the host of group 0: decisions, registration, producer ids
``sessions``    which nodes are heard, and which are fenced
``caretaker``   registers, admits, fences, balances, again and again
``replay``      is the metadata here of the present?
``acquaintances``  finds nodes that joined while this one heard nothing
``reconciler``  drives this node's replicas to what the metadata says
"""
