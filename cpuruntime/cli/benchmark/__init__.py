"""`cpuruntime benchmark`: OpenVINO's benchmark_app, with open-loop loads and a page that shows what was measured."""
