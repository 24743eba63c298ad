// The yardstick: an operator as a seasoned Go team would write it with controller-runtime, for the
// same object and the same calls to the vendor as Auterity's. No client-side rate limit, a cache
// without managed fields, reconciles only for edits, and controller-runtime's own priority queue.
package main

import (
	"flag"
	"net/http"
	"os"

	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	workers := flag.Int("workers", 1, "objects reconciled at the same time")
	vendorURL := flag.String("vendor", "", "base URL of the vendor's API")
	cluster := flag.String("cluster", "bench", "name of this cluster in owner tags")
	metrics := flag.String("metrics", "127.0.0.1:8080", "address of /metrics")
	probes := flag.String("probes", "127.0.0.1:8081", "address of /readyz")
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.Level(zapcore.WarnLevel)))
	if err := run(*workers, *vendorURL, *cluster, *metrics, *probes); err != nil {
		ctrl.Log.Error(err, "the yardstick ended")
		os.Exit(1)
	}
}

func run(workers int, vendorURL, cluster, metrics, probes string) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	addToScheme(scheme)
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		Cache:                  cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Metrics:                server.Options{BindAddress: metrics},
		HealthProbeBindAddress: probes,
	})
	if err != nil {
		return err
	}
	reconciler := &Reconciler{
		Client: manager.GetClient(), cluster: cluster, vendor: newVendor(vendorURL),
	}
	if err := reconciler.setUp(manager, workers); err != nil {
		return err
	}
	ready := func(request *http.Request) error {
		if !manager.GetCache().WaitForCacheSync(request.Context()) {
			return request.Context().Err()
		}
		return nil
	}
	if err := manager.AddReadyzCheck("cache", healthz.Checker(ready)); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
