"""A model behind a port.

server, app       the process, and its HTTP interface
service           a loaded model and what its requests share
batching          crops of requests that are there at the same time
connections, access, bodies    who is let in, for how long, with how much
uploads, boxes    what strangers send, checked
answers, limits, counters    what is answered, what is accepted, what is counted
guide             the page /docs, for people who write clients"""
