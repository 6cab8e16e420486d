// Go's net/http without shutdown code.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	big := make([]byte, 50_000_000)
	worker := os.Getenv("REUSE_WORKER_ID")
	answer := func(response http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(response, "%s %d\n", worker, os.Getpid())
	}
	http.HandleFunc("/", answer)
	http.HandleFunc("/slow", func(response http.ResponseWriter, request *http.Request) {
		ms, _ := strconv.Atoi(request.URL.Query().Get("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		answer(response, request)
	})
	http.HandleFunc("/chunks", func(response http.ResponseWriter, _ *http.Request) {
		for left := 20; left > 0; left-- {
			fmt.Fprintln(response, "chunk")
			response.(http.Flusher).Flush()
			if left > 1 {
				time.Sleep(100 * time.Millisecond)
			}
		}
	})
	http.HandleFunc("/big", func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Content-Length", strconv.Itoa(len(big)))
		response.Write(big)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil))
}
