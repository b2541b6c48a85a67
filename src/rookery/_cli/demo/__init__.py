"""The main job: a supervised pipeline that trains and uses a classifier on the device.

A reader streams images of handwritten digits to a stage that owns the device's network; the stage trains it with
some of the images and then says of each image which digit it takes it for; a sink gathers the answers. Half-way
the stage is made to crash. Then the same computation is done in NumPy, and the two are compared.

======================  =========================================================
`plan`                  what is learned, in which order, from which random numbers
`digits`                the images
`classifier.cl`         the network's kernels, in OpenCL C
`network`               the network on the device
`reference`             the same network in NumPy
`messages`              what the actors tell each other, and the ledger
`pipeline`              the actors
`sabotage`              the crash
`display`               what is shown meanwhile
`report`                the checks and the table
`job`                   all of it, in order
======================  =========================================================
"""

from __future__ import annotations

from .job import main as main
