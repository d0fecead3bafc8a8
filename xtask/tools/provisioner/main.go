// The provisioner of the default StorageClass: a volume is a folder of the one node.
//
// It goes by the name of kind's own and makes the same volumes, but makes and removes the folders itself. kind's
// starts a pod for each, and where a dozen StatefulSets come and go side by side those pods were a third of all.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const name = "rancher.io/local-path"

// folders makes and removes those of a node's volumes, and reaches nothing outside of their parent.
type folders struct {
	parent *os.Root
}

// Provision makes a folder that any user of a pod may write to: which one that will be, nobody knows yet.
func (f folders) Provision(
	_ context.Context, wanted controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	claim := wanted.PVC.Spec
	if claim.Selector != nil {
		return nil, controller.ProvisioningFinished, errors.New("claim selectors are not supported")
	}
	if wanted.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, errors.New("the class must bind with WaitForFirstConsumer")
	}
	for _, mode := range claim.AccessModes {
		if mode != v1.ReadWriteOnce && mode != v1.ReadWriteOncePod {
			return nil, controller.ProvisioningFinished, fmt.Errorf("a folder of a node cannot be %s", mode)
		}
	}
	if err := f.parent.Mkdir(wanted.PVName, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, controller.ProvisioningFinished, err
	}
	// The umask has taken something away.
	if err := f.parent.Chmod(wanted.PVName, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	volume := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: wanted.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *wanted.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: claim.Resources.Requests[v1.ResourceStorage]},
			VolumeMode:                    claim.VolumeMode,
			NodeAffinity:                  only(wanted.SelectedNodeName),
			PersistentVolumeSource: v1.PersistentVolumeSource{
				HostPath: &v1.HostPathVolumeSource{
					Path: filepath.Join(f.parent.Name(), wanted.PVName),
					// A folder that somebody took away is not made anew, with nothing in it.
					Type: new(v1.HostPathDirectory),
				},
			},
		},
	}
	return volume, controller.ProvisioningFinished, nil
}

// Delete removes the folder that has the volume's name, whatever path the volume tells.
func (f folders) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	return f.parent.RemoveAll(volume.Name)
}

// only is the affinity to one node.
func only(node string) *v1.VolumeNodeAffinity {
	return &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
		MatchExpressions: []v1.NodeSelectorRequirement{{
			Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{node},
		}},
	}}}}
}

// run provisions until it is told to stop; parent is the same folder here and on the node.
func run(parent string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	root, err := os.OpenRoot(parent)
	if err != nil {
		return err
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	// The API server itself says when it is asked too much: client-go's five requests a second are two volumes.
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	controller.NewProvisionController(
		ctx, client, name, folders{root}, controller.LeaderElection(false),
	).Run(ctx)
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: provisioner FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "provisioner:", err)
		os.Exit(1)
	}
}
