package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const (
	finalizer = "yardstick.auterity.io/finalizer"
	ownerTag  = "owner"
)

// Reconciler keeps one index at the vendor for each VectorIndex.
type Reconciler struct {
	client.Client
	cluster string
	vendor  *vendor
}

func (r *Reconciler) setUp(manager ctrl.Manager, workers int) error {
	edits := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	return ctrl.NewControllerManagedBy(manager).
		For(&VectorIndex{}, builder.WithPredicates(edits)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// Reconcile makes the vendor's side match one object.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &VectorIndex{}
	if err := r.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.finalize(ctx, object)
	}
	if controllerutil.AddFinalizer(object, finalizer) {
		if err := r.Update(ctx, object); err != nil {
			return ctrl.Result{}, err
		}
	}
	seen, err := r.keep(ctx, object)
	if err := errors.Join(err, r.tell(ctx, object, seen, err)); err != nil {
		return ctrl.Result{}, err
	}
	interval, err := time.ParseDuration(object.Spec.Interval)
	spread := 0.9 + 0.2*rand.Float64()
	return ctrl.Result{RequeueAfter: time.Duration(spread * float64(interval))}, err
}

func (r *Reconciler) keep(ctx context.Context, object *VectorIndex) (*index, error) {
	want := r.want(object)
	seen, err := r.vendor.read(ctx, want.Name)
	if err != nil {
		return nil, err
	}
	if seen == nil {
		return r.vendor.create(ctx, want)
	}
	if owner := seen.Tags[ownerTag]; owner != want.Tags[ownerTag] {
		return nil, fmt.Errorf("%s belongs to %q", want.Name, owner)
	}
	if seen.Dimension != want.Dimension || seen.Metric != want.Metric {
		return nil, fmt.Errorf("%s exists with values that cannot change", want.Name)
	}
	if seen.Replicas == want.Replicas && maps.Equal(seen.Tags, want.Tags) {
		return seen, nil
	}
	change := changes{Replicas: want.Replicas, Tags: want.Tags}
	if err := r.vendor.update(ctx, want.Name, change); err != nil {
		return nil, err
	}
	return r.vendor.read(ctx, want.Name)
}

func (r *Reconciler) finalize(ctx context.Context, object *VectorIndex) error {
	if !controllerutil.ContainsFinalizer(object, finalizer) {
		return nil
	}
	seen, err := r.vendor.read(ctx, object.Name)
	if err != nil {
		return err
	}
	if seen != nil {
		if err := r.vendor.remove(ctx, object.Name); err != nil {
			return err
		}
		if left, err := r.vendor.read(ctx, object.Name); err != nil || left != nil {
			return errors.Join(err, fmt.Errorf("%s is still there", object.Name))
		}
	}
	controllerutil.RemoveFinalizer(object, finalizer)
	return client.IgnoreNotFound(r.Update(ctx, object))
}

// tell writes the status if it changed.
func (r *Reconciler) tell(ctx context.Context, object *VectorIndex, seen *index, failure error) error {
	before := object.Status.deepCopy()
	ready := metav1.Condition{
		Type: "Ready", Status: metav1.ConditionTrue, Reason: "Ready",
		Message: "example has what the spec says", ObservedGeneration: object.Generation,
	}
	if failure != nil {
		ready.Status, ready.Reason = metav1.ConditionFalse, "ProviderUnavailable"
		ready.Message = failure.Error()
	}
	object.Status.ObservedGeneration = object.Generation
	object.Status.Vendor = "example"
	if seen != nil {
		object.Status.ID = seen.Name
		object.Status.SyncedGeneration = object.Generation
		object.Status.Outputs = map[string]string{"host": seen.Host, "name": seen.Name}
	}
	meta.SetStatusCondition(&object.Status.Conditions, ready)
	if equality.Semantic.DeepEqual(before, object.Status) {
		return nil
	}
	return r.Status().Update(ctx, object)
}

func (r *Reconciler) want(object *VectorIndex) index {
	tags := maps.Clone(object.Spec.Example.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	tags[ownerTag] = r.cluster + "/" + object.Namespace + "/" + object.Name
	return index{
		Name: object.Name, Dimension: object.Spec.Dimension, Metric: object.Spec.Metric,
		Replicas: object.Spec.Example.Replicas, Tags: tags,
	}
}
