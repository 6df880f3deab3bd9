"""The ways to touch a page, one file a family; `probe.catalogue` lists them all."""
