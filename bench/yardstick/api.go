package main

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// VectorIndex has the fields that the bench sets of Auterity's kind of the same name.
type VectorIndex struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              VectorIndexSpec   `json:"spec"`
	Status            VectorIndexStatus `json:"status,omitempty"`
}

type VectorIndexSpec struct {
	ConnectionRef  ConnectionRef `json:"connectionRef"`
	DeletionPolicy string        `json:"deletionPolicy,omitempty"`
	// Not metav1.Duration, which writes 10m back as 10m0s: a new generation, and a second visit.
	Interval  string  `json:"interval"`
	Dimension int     `json:"dimension"`
	Metric    string  `json:"metric"`
	Example   Example `json:"example"`
}

type ConnectionRef struct {
	Kind string `json:"kind,omitempty"`
	Name string `json:"name"`
}

type Example struct {
	Replicas int               `json:"replicas"`
	Tags     map[string]string `json:"tags,omitempty"`
}

type VectorIndexStatus struct {
	ObservedGeneration int64              `json:"observedGeneration"`
	SyncedGeneration   int64              `json:"syncedGeneration,omitempty"`
	ID                 string             `json:"id,omitempty"`
	Vendor             string             `json:"vendor,omitempty"`
	Outputs            map[string]string  `json:"outputs,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

type VectorIndexList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VectorIndex `json:"items"`
}

func addToScheme(scheme *runtime.Scheme) {
	version := schema.GroupVersion{Group: "yardstick.auterity.io", Version: "v1alpha1"}
	scheme.AddKnownTypes(version, &VectorIndex{}, &VectorIndexList{})
	metav1.AddToGroupVersion(scheme, version)
}

func (in *VectorIndex) DeepCopyObject() runtime.Object {
	return in.deepCopy()
}

func (in *VectorIndex) deepCopy() *VectorIndex {
	out := *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Example.Tags = maps.Clone(in.Spec.Example.Tags)
	out.Status = in.Status.deepCopy()
	return &out
}

func (in *VectorIndexStatus) deepCopy() VectorIndexStatus {
	out := *in
	out.Outputs = maps.Clone(in.Outputs)
	out.Conditions = slices.Clone(in.Conditions)
	return out
}

func (in *VectorIndexList) DeepCopyObject() runtime.Object {
	out := *in
	out.Items = make([]VectorIndex, len(in.Items))
	for i := range in.Items {
		out.Items[i] = *in.Items[i].deepCopy()
	}
	return &out
}
