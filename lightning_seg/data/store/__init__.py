"""Where decoded samples are kept: memory, mapped files, slices of scans."""
