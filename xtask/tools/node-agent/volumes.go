// The volumes of the default StorageClass: each is a folder of one node.
//
// The class is called as kind's own and has the same volumes, but folders are made and removed right here. kind's
// provisioner starts a pod for each, and where a dozen StatefulSets come and go side by side those pods were a third
// of all.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	// provisioner is who makes the volumes, by the name that the class calls it.
	provisioner = "rancher.io/local-path"
	// selected is where the scheduler writes for which node it wants a volume.
	selected = "volume.kubernetes.io/selected-node"
)

// folders makes and removes those of a node's volumes, and reaches nothing outside of their parent.
type folders struct {
	parent *os.Root
	node   string
}

// ShouldProvision leaves other nodes' volumes to their agents. A claim that waits for no node gets its refusal from all.
func (f folders) ShouldProvision(_ context.Context, claim *v1.PersistentVolumeClaim) bool {
	node := claim.Annotations[selected]
	return node == "" || node == f.node
}

// ShouldDelete is true of the volumes that lie on this node.
func (f folders) ShouldDelete(_ context.Context, volume *v1.PersistentVolume) bool {
	return equality.Semantic.DeepEqual(volume.Spec.NodeAffinity, only(f.node))
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

// provision makes and removes volumes until the context ends.
func provision(ctx context.Context, client kubernetes.Interface, folders folders) {
	controller.NewProvisionController(
		ctx, client, provisioner, folders, controller.LeaderElection(false),
	).Run(ctx)
}
