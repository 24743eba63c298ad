// Reads a JSON list of Kubernetes objects and writes the list of what kstatus makes of each.
package main

import (
	"encoding/json"
	"log"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		log.Fatal(err)
	}
	states := make([]string, 0, len(objects))
	for _, object := range objects {
		// Its own decoder keeps whole numbers whole, as kstatus expects of them.
		found := &unstructured.Unstructured{}
		if err := found.UnmarshalJSON(object); err != nil {
			log.Fatal(err)
		}
		result, err := status.Compute(found)
		if err != nil {
			log.Fatal(err)
		}
		states = append(states, result.Status.String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(states); err != nil {
		log.Fatal(err)
	}
}
