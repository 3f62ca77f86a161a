// Package e2e tests the program as people run it: the built binary, real programs (curl, ssh, a browser, a resolver)
// and the real kernel's TCP, in network namespaces from which nothing can leave.
//
//	 client          middle             gateway           world
//	┌────────┐     ┌───────────┐      ┌──────────┐      ┌─────────────────────────────┐
//	│ godwit │     │  a router │      │ godwit   │      │ .10 web site, sshd          │
//	│ up     ├─────┤  where we ├──────┤ gateway  ├──────┤ .53 name server (ours)      │
//	│ curl … │.2 .1│  cut      │.1  .2│ run      │.1    │ .54 unbound                 │
//	└────────┘     └───────────┘      └──────────┘      └─────────────────────────────┘
//	    198.51.100.0/24      203.0.113.0/24      192.0.2.0/24
//	    2001:db8:1::/64                          2001:db8:2::/64
//
// The middle has no route to the world, and notes every packet from the client that is not for the gateway: a test in
// which one is seen fails. Its resolver, the only one the client's machine knows, notes every name it is asked for.
//
// Each namespace is made inside one user, network, mount and process namespace, in which the test binary runs itself
// again. That takes no privilege where the system lets a user have namespaces; elsewhere, and where a program is
// missing, tests skip and say what they need. When the outer process goes, everything inside goes with it.
package e2e
