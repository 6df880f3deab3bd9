"""A guest: programs as machine code made from the designs, an emulated CPU, and the warden's half of its hypercalls.

May be imported: `program` (what a guest does), `listing` (its machine code), `interpret` (the same without a CPU),
`unicorn_cpu`, `serve` (a CPU run and answered), `warden`.

    import numpy as np
    from pagewarden.guest.program import program

    made = program("window", write=[True], sector=[0], length=[4096], disk=np.zeros(8, np.uint64))
    print([act.value for act in made.steps], made.outs)
"""
