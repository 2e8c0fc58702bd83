"""A model behind a port.

server, app       the process, and its HTTP interface
service           a loaded model and what its requests share
batching          crops of requests that are there at the same time
uploads, boxes    what strangers send, checked
answers, limits, counters    what is answered, what is accepted, what is counted"""
