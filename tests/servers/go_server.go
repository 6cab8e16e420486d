// Go's net/http as most people write it: the program ends when ListenAndServe does.
//
//	go_server PORT
//
// Answers "SLOT PID".
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"syscall"
)

const soReusePort = 15

func main() {
	slot := os.Getenv("REUSE_WORKER_ID")
	if slot == "" {
		slot = "-"
	}
	config := net.ListenConfig{Control: func(_, _ string, connection syscall.RawConn) error {
		var failed error
		err := connection.Control(func(descriptor uintptr) {
			failed = syscall.SetsockoptInt(int(descriptor), syscall.SOL_SOCKET, soReusePort, 1)
		})
		if err != nil {
			return err
		}
		return failed
	}}
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(response http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(response, "%s %d\n", slot, os.Getpid())
	})
	log.Fatal(http.Serve(listener, nil))
}
