"""What devices over other devices share: lists of devices, requests that lend their memory, the dispatch to workers."""
