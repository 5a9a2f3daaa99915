# Below this, gobgpd is known to crash from malformed UPDATEs.
export DIB_GOBGP_MINIMUM=${DIB_GOBGP_MINIMUM:-4.6}
# The suite its package comes from; "none" is the image's own.
export DIB_GOBGP_SUITE=${DIB_GOBGP_SUITE:-unstable}
