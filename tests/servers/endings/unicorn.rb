listen "127.0.0.1:8080"
worker_processes 8
