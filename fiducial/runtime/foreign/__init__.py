"""Networks of other projects that give points: an ONNX or TFLite file, and a card that says how to read it.

network_card        what a card says; the cards in `cards/`, each recognised by a file's inputs and outputs
outputs             tensors -> points
network             a graph and its card, with the contract of every other model of `runtime`"""
