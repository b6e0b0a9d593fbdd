"""Lightning callbacks: scores, TensorBoard, the record of a run, volume scores."""
