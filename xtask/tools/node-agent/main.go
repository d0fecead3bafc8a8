// The agent of a node: it connects the node's pods with those of the other nodes, and makes the volumes that lie on it.
//
// Of kind's own, kindnetd does the one and local-path-provisioner the other; neither is to be had without a registry.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// run does both until it is told to stop; volumes lie in a folder that is called the same here and on the node.
func run(folder string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	node := os.Getenv("NODE_NAME")
	if node == "" {
		return errors.New("NODE_NAME does not say which node this is")
	}
	parent, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	client, err := client()
	if err != nil {
		return err
	}
	go provision(ctx, client, folders{parent, node})
	return network{node: node, config: configFile}.follow(ctx, client)
}

// client reaches the API server where kind says that it is: its service has no address before this node has kube-proxy.
func client() (*kubernetes.Clientset, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	// The API server itself says when it is asked too much: client-go's five requests a second are two volumes.
	config.QPS = -1
	return kubernetes.NewForConfig(config)
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: node-agent FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "node-agent:", err)
		os.Exit(1)
	}
}
