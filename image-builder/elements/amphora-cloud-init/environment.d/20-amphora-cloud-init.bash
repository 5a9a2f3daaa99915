# cloud-init is written in it.
export DIB_AMPHORA_KEEP_PYTHON=1
