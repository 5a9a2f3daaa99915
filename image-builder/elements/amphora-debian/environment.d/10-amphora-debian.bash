export DISTRO_NAME=debian
export DIB_RELEASE=${DIB_RELEASE:-trixie}
export DIB_INIT_SYSTEM=systemd
# Without it the element dib-python looks for a python2 and ends without a word.
export DIB_PYTHON_VERSION=${DIB_PYTHON_VERSION:-3}
export EFI_BOOT_DIR="EFI/debian"

export DIB_DEBIAN_COMPONENTS=${DIB_DEBIAN_COMPONENTS:-main}
# Networks are systemd-networkd's here: no /etc/network/interfaces.
export DIB_APT_MINIMAL_CREATE_INTERFACES=${DIB_APT_MINIMAL_CREATE_INTERFACES:-0}

export DIB_AMPHORA_KERNEL=${DIB_AMPHORA_KERNEL:-full}
export DIB_AMPHORA_SLIM=${DIB_AMPHORA_SLIM:-1}

export DIB_GRUB_TIMEOUT=${DIB_GRUB_TIMEOUT:-0}
# The kernel's names of NICs: eth0 is the first one, the management network's.
export DIB_BOOTLOADER_DEFAULT_CMDLINE=${DIB_BOOTLOADER_DEFAULT_CMDLINE:-"net.ifnames=0 nomodeset"}
