# A file with a root password, for debugging; an image has none otherwise.
export DIB_AMPHORA_ROOT_PASSWORD_FILE=${DIB_AMPHORA_ROOT_PASSWORD_FILE:-}
