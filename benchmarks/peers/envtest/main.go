// Start controller-runtime's envtest, write once, wait for a line, stop.
// Prints a word when each is reached; the one who started it keeps the time.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
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
	fmt.Println("up")
	bufio.NewReader(os.Stdin).ReadString('\n')
	check(env.Stop())
	fmt.Println("stopped")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
