// Start controller-runtime's envtest, write once, do what is asked for, stop.
// Prints a word when each is reached; the one who started it keeps the time.
//
//	envtest-peer                  only the first write
//	envtest-peer crds ONE TEN     install the CRDs of two files, create an object of each
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

func main() {
	env := &envtest.Environment{}
	config, err := env.Start()
	check(err)
	client, err := kubernetes.NewForConfig(config)
	check(err)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "first"}}
	_, err = client.CoreV1().ConfigMaps("default").Create(context.Background(), object, metav1.CreateOptions{})
	check(err)
	fmt.Println("write")
	if len(os.Args) > 1 {
		time.Sleep(2 * time.Second) // the API server still does what it does at its start
		fmt.Println("calm")
		install(config, os.Args[2])
		fmt.Println("one")
		install(config, os.Args[3])
		fmt.Println("ten")
	} else {
		fmt.Println("weigh")
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	fmt.Println("stopping")
	check(env.Stop())
	fmt.Println("stopped")
}

func install(config *rest.Config, path string) {
	crds, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{Paths: []string{path}})
	check(err)
	client, err := dynamic.NewForConfig(config)
	check(err)
	for _, crd := range crds {
		spec := crd.Spec
		kind := schema.GroupVersionResource{
			Group: spec.Group, Version: spec.Versions[0].Name, Resource: spec.Names.Plural,
		}
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": spec.Group + "/" + kind.Version,
			"kind":       spec.Names.Kind,
			"metadata":   map[string]any{"name": "first"},
			"spec":       map[string]any{"size": int64(3)},
		}}
		_, err = client.Resource(kind).Namespace("default").Create(context.Background(), object, metav1.CreateOptions{})
		check(err)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
