#!/bin/sh
# Makes the certificates that an operator makes with openssl, as Octavia's guide has it (Octavia Certificate
# Configuration Guide): two authorities, the controller's client certificate, and with them what the guide leaves to the
# controller or to "any standards compliant certificate authority".
#
#     tests/octavia/authorities.sh FOLDER AMPHORA_ID
#
# FOLDER/{with,without,other}: with key identifiers (subject and authority), without any, and with again under the same
# names but of other keys. In each:
#     server_ca.pem server_ca.key.pem      the amphorae's authority; its key is under the passphrase below
#     client_ca.pem                        the controllers' authority
#     client.pem                           key and certificate of a controller
#     client-chain.pem                     the same from an authority below the controllers' one, which comes along
#     server.pem server-chain.pem          an amphora's certificate and key, made without Octavia; from an authority below
# Existing files are replaced. The guide's authorities have keys of 4096 bits; these have 2048, to be quick.
set -eu

passphrase=pass:passphrase
folder=$1
amphora=$2

# The guide's configuration in what matters to who checks a certificate. IDENTIFIERS is "with" or "without".
configuration() {
    case $1 in
    without) subject=none of_issuer=none of_issuer_leaf=none of_issuer_server=none ;;
    *) subject=hash of_issuer=keyid:always,issuer of_issuer_leaf=keyid,issuer of_issuer_server=keyid,issuer:always ;;
    esac
    cat <<END
[ca]
default_ca = here
[here]
dir = .
new_certs_dir = .
database = index.txt
serial = serial
unique_subject = no
policy = any
default_md = sha256
[any]
countryName = optional
stateOrProvinceName = optional
organizationName = optional
organizationalUnitName = optional
commonName = supplied
[req]
distinguished_name = name
string_mask = utf8only
default_md = sha256
[name]
[v3_ca]
subjectKeyIdentifier = $subject
authorityKeyIdentifier = $of_issuer
basicConstraints = critical, CA:true
keyUsage = critical, digitalSignature, cRLSign, keyCertSign
[usr_cert]
basicConstraints = CA:FALSE
nsCertType = client, email
nsComment = "OpenSSL Generated Client Certificate"
subjectKeyIdentifier = $subject
authorityKeyIdentifier = $of_issuer_leaf
keyUsage = critical, nonRepudiation, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth, emailProtection
[server_cert]
basicConstraints = CA:FALSE
nsCertType = server
nsComment = "OpenSSL Generated Server Certificate"
subjectKeyIdentifier = $subject
authorityKeyIdentifier = $of_issuer_server
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = DNS:$amphora
END
}

key() { openssl genpkey -quiet -algorithm RSA -out "$1" -aes-128-cbc -pass "$passphrase" -pkeyopt rsa_keygen_bits:2048; }

request() { openssl req -config openssl.cnf -new -sha256 -key "$1" -passin "$passphrase" -subj "/C=US/ST=Oregon/O=OpenStack/OU=Octavia/CN=$2" -out csr.pem; }

# root NAME: an authority that signs itself.
root() {
    key "$1.key.pem"
    openssl req -config openssl.cnf -key "$1.key.pem" -passin "$passphrase" -new -x509 -days 7300 -sha256 -extensions v3_ca \
        -subj "/C=US/ST=Oregon/O=OpenStack/OU=Octavia/CN=$1" -out "$1.pem"
}

# sign CA EXTENSIONS KEY COMMON_NAME CERTIFICATE
sign() {
    request "$3" "$4"
    openssl ca -batch -config openssl.cnf -extensions "$2" -days 7300 -notext -md sha256 -cert "$1.pem" -keyfile "$1.key.pem" \
        -passin "$passphrase" -in csr.pem -out "$5" 2>ca.log || { cat ca.log >&2; exit 1; }
}

# holder CA EXTENSIONS COMMON_NAME FILE [CHAIN]: a key without passphrase and its certificate, in one file.
holder() {
    key leaf.key.pem
    sign "$1" "$2" leaf.key.pem "$3" leaf.pem
    openssl rsa -in leaf.key.pem -passin "$passphrase" -out plain.key.pem 2>/dev/null
    cat plain.key.pem leaf.pem ${5:+"$5"} >"$4"
}

for set in with without other; do
    (
        mkdir -p "$folder/$set"
        cd "$folder/$set"
        umask 077
        configuration "$set" >openssl.cnf
        : >index.txt
        echo 1000 >serial
        for role in client server; do
            case $role in
            client) extensions=usr_cert name=controller.example.org ;;
            server) extensions=server_cert name=$amphora ;;
            esac
            root "${role}_ca"
            holder "${role}_ca" "$extensions" "$name" "$role.pem"
            key below.key.pem
            sign "${role}_ca" v3_ca below.key.pem "${role} authority below" below.pem
            holder below "$extensions" "$name" "$role-chain.pem" below.pem
        done
    )
done
