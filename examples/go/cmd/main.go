// Command manager runs the Memcached operator.
package main

import (
	"errors"
	"flag"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	cachev1alpha1 "example.com/memcached-operator/api/v1alpha1"
	"example.com/memcached-operator/internal/controller"
)

func main() {
	metrics := flag.String("metrics-bind-address", "0",
		"Where metrics are served, for example :8080; 0 for nowhere.")
	probes := flag.String("health-probe-bind-address", ":8081",
		"Where /healthz and /readyz are served; 0 for nowhere.")
	elect := flag.Bool("leader-elect", false,
		"Act only while no other replica does: while holding the Lease.")
	lease := flag.Duration("leader-elect-lease-duration", 15*time.Second,
		"How long a replica that crashed keeps the Lease.")
	deadline := flag.Duration("leader-elect-renew-deadline", 10*time.Second,
		"After how long a replica gives up that cannot renew the Lease.")
	retry := flag.Duration("leader-elect-retry-period", 2*time.Second,
		"How long to wait before the next try to get or renew the Lease.")
	namespaced := flag.Bool("namespaced", false,
		"Watch the namespace that is in the environment as NAMESPACE; else all of them.")
	logging := zap.Options{Development: true}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))

	options := ctrl.Options{
		Metrics:                       metricsserver.Options{BindAddress: *metrics},
		HealthProbeBindAddress:        *probes,
		LeaderElection:                *elect,
		LeaderElectionID:              controller.Operator,
		LeaderElectionNamespace:       controller.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 lease,
		RenewDeadline:                 deadline,
		RetryPeriod:                   retry,
	}
	if err := run(options, *namespaced); err != nil {
		ctrl.Log.Error(err, "the manager cannot run")
		os.Exit(1)
	}
}

// run runs the manager until it is told to stop.
func run(options ctrl.Options, namespaced bool) error {
	if namespaced {
		namespace := os.Getenv("NAMESPACE")
		if namespace == "" {
			return errors.New("--namespaced: the environment has no NAMESPACE")
		}
		options.Cache.DefaultNamespaces = map[string]cache.Config{namespace: {}}
	}
	options.Scheme = runtime.NewScheme()
	if err := errors.Join(
		clientgoscheme.AddToScheme(options.Scheme),
		cachev1alpha1.AddToScheme(options.Scheme),
	); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		return err
	}
	reconciler := &controller.MemcachedReconciler{Client: mgr.GetClient()}
	if err := errors.Join(
		reconciler.SetupWithManager(mgr),
		mgr.AddHealthzCheck("healthz", healthz.Ping),
		mgr.AddReadyzCheck("readyz", healthz.Ping),
	); err != nil {
		return err
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}
