// The pods' network between nodes: they share a bridge, so that a route to each other node's pods is all it takes.

package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// configFile is where containerd looks for the network of the node's pods.
	configFile = "/etc/cni/net.d/10-lab.conflist"
	// firstSubnet is the part of the pods' network that the first node has, and the one in the configuration.
	firstSubnet = "10.244.0.0/24"
	// ours marks the routes that are made here; the kernel's table of protocols has nothing under this number.
	ours netlink.RouteProtocol = 76
	// pause is how long a route that was refused is left alone.
	pause = time.Second
)

// networkConfig gives a node's pods a pair of interfaces and an address each. The first node has it from its image.
//
//go:embed network.json
var networkConfig string

// network is that of one node.
type network struct {
	node, config string
}

// way leads to the pods of another node.
type way struct {
	pods, via string
}

// follow connects the node whenever nodes come, change, or go.
func (n network) follow(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	var now []way
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		all, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		subnet, ways := plan(n.node, all)
		if err := n.configure(subnet); err != nil {
			return err
		}
		if slices.Equal(now, ways) {
			continue
		}
		// A node that was started again may have no address on the bridge yet.
		if err := connect(ways); err != nil {
			fmt.Fprintln(os.Stderr, "node-agent:", err)
			time.AfterFunc(pause, notify)
			continue
		}
		now = ways
	}
}

// plan is the subnet of a node's own pods, empty while it has none, and the ways to those of the others.
func plan(node string, all []*v1.Node) (subnet string, ways []way) {
	for _, other := range all {
		if other.Name == node {
			subnet = other.Spec.PodCIDR
			continue
		}
		for _, address := range other.Status.Addresses {
			if address.Type == v1.NodeInternalIP && other.Spec.PodCIDR != "" {
				ways = append(ways, way{other.Spec.PodCIDR, address.Address})
				break
			}
		}
	}
	slices.SortFunc(ways, func(a, b way) int { return strings.Compare(a.pods, b.pods) })
	return subnet, ways
}

// configure writes the configuration for a subnet, unless it says so already. The node is ready as soon as it is there.
func (n network) configure(subnet string) error {
	if subnet == "" {
		return nil
	}
	wanted := []byte(strings.Replace(networkConfig, firstSubnet, subnet, 1))
	written, err := os.ReadFile(n.config)
	if err == nil && bytes.Equal(written, wanted) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Not called as a configuration is, so that nobody reads half of it.
	half := n.config + ".tmp"
	if err := os.WriteFile(half, wanted, 0o644); err != nil {
		return err
	}
	return os.Rename(half, n.config)
}

// connect makes the routes of these ways, and takes away what was made for others.
func connect(ways []way) error {
	wanted := make(map[string]bool)
	for _, way := range ways {
		_, pods, err := net.ParseCIDR(way.pods)
		if err != nil {
			return err
		}
		wanted[pods.String()] = true
		route := netlink.Route{Dst: pods, Gw: net.ParseIP(way.via), Protocol: ours}
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("no route to %s by way of %s: %w", way.pods, way.via, err)
		}
	}
	made, err := netlink.RouteListFiltered(
		netlink.FAMILY_V4, &netlink.Route{Protocol: ours}, netlink.RT_FILTER_PROTOCOL,
	)
	if err != nil {
		return err
	}
	for _, route := range made {
		if route.Dst != nil && !wanted[route.Dst.String()] {
			if err := netlink.RouteDel(&route); err != nil {
				return err
			}
		}
	}
	return nil
}
