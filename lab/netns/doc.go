// Package netns makes hosts out of network namespaces, with names and resolvers of their own where wanted, and lets
// processes be started in them, all inside one sandbox: new user, network, mount and process namespaces that end with the
// program. Nothing in it can reach a real interface: every namespace is new and has only the interfaces made here, and the
// sandbox holds no capability outside of it.
package netns
