// Start controller-runtime's envtest, write once, stop; print the seconds as JSON.
package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

func main() {
	began := time.Now()
	env := &envtest.Environment{}
	config, err := env.Start()
	check(err)
	client, err := kubernetes.NewForConfig(config)
	check(err)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "first"}}
	_, err = client.CoreV1().ConfigMaps("default").Create(context.Background(), object, metav1.CreateOptions{})
	check(err)
	wrote := time.Now()
	check(env.Stop())
	seconds := map[string]float64{"write": wrote.Sub(began).Seconds(), "stop": time.Since(wrote).Seconds()}
	check(json.NewEncoder(os.Stdout).Encode(seconds))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
