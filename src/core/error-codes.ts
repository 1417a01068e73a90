/**
 * Every error code of Sigillo: what it means, and the HTTP status that it is answered with.
 *
 * A code is never renamed. `docs/errors.md` is generated from this table.
 */
export const ERROR_CODES = {
  // decode: octets or text that cannot be read
  DECODE_TRUNCATED: { status: 400, title: 'the input ends before the structure does' },
  DECODE_TRAILING: { status: 400, title: 'octets follow the end of the structure' },
  DECODE_TOO_LARGE: { status: 413, title: 'a size or count is above its limit' },
  DECODE_VALUE: { status: 400, title: 'a value is not one that the standard allows here' },
  DECODE_ENCODING: { status: 400, title: 'text is not in the expected encoding' },

  // config and start-up
  CONFIG_INVALID: { status: 500, title: 'the configuration does not fit its schema' },
  CONFIG_UNREADABLE: { status: 500, title: 'a configuration file cannot be read' },
  FILE_MODE: { status: 500, title: 'a file with a secret can be read by others' },

  // requests
  REQUEST_INVALID: { status: 400, title: 'the request does not fit its schema' },
  NOT_FOUND: { status: 404, title: 'no such object' },
  CONFLICT: { status: 409, title: 'the object exists already or is in another state' },
  UNAUTHENTICATED: { status: 401, title: 'the caller is not known' },
  FORBIDDEN: { status: 403, title: 'the caller may not do this' },
  IDEMPOTENCY_MISMATCH: { status: 422, title: 'the key was used for another request' },
  IDEMPOTENCY_UNKNOWN: { status: 409, title: 'nobody knows whether the request was done' },
  RATE_LIMITED: { status: 429, title: 'too many requests' },
  INTERNAL: { status: 500, title: 'an error of our own' },
  UNAVAILABLE: { status: 503, title: 'the service cannot answer now' },
  SEALED: { status: 503, title: 'the service is sealed' },
  AUTHORITY_UNREACHABLE: { status: 503, title: 'the authority does not answer' },

  // tokens
  TOKEN_TOO_LARGE: { status: 401, title: 'a token is larger than a token may be' },
  TOKEN_MALFORMED: { status: 401, title: 'text is not a token that can be read' },
  TOKEN_TYPE: { status: 401, title: 'a token is of another type' },
  TOKEN_ALGORITHM: {
    status: 401,
    title: 'a token is signed with an algorithm that its key does not have',
  },
  TOKEN_KEY_UNKNOWN: { status: 401, title: 'the key that a token names is not one of the issuer' },
  TOKEN_KEY_INVALID: { status: 400, title: 'a public key is not one that tokens may use' },
  TOKEN_SIGNATURE: { status: 401, title: 'the signature of a token does not verify' },
  TOKEN_ISSUER: { status: 401, title: 'a token is from another issuer' },
  TOKEN_AUDIENCE: { status: 401, title: 'a token is for another audience' },
  TOKEN_EXPIRED: { status: 401, title: 'a token has expired' },
  TOKEN_REVOKED: { status: 401, title: 'a token was revoked' },
  TOKEN_NOT_YET_VALID: { status: 401, title: 'a token is not valid yet' },
  TOKEN_LIFETIME: { status: 401, title: 'a token lives longer than tokens may' },
  TOKEN_UNBOUND: { status: 401, title: 'a token is not bound to a key of the host' },
  TOKEN_CLAIMS: { status: 401, title: 'the claims of a token do not fit the profile' },
  DPOP_MALFORMED: { status: 401, title: 'text is not a proof of possession that can be read' },
  DPOP_TYPE: { status: 401, title: 'a proof of possession is of another type' },
  DPOP_KEY: { status: 401, title: 'a proof of possession is by another key or kind of key' },
  DPOP_SIGNATURE: { status: 401, title: 'the signature of a proof of possession does not verify' },
  DPOP_METHOD: { status: 401, title: 'a proof of possession is for another method' },
  DPOP_URI: { status: 401, title: 'a proof of possession is for another URI' },
  DPOP_TIME: { status: 401, title: 'a proof of possession was not made just now' },
  DPOP_TOKEN_HASH: { status: 401, title: 'a proof of possession is for another token' },
  DPOP_REPLAYED: { status: 401, title: 'a proof of possession was used before' },
  JWE_MALFORMED: { status: 400, title: 'text is not an encrypted answer that can be read' },
  JWE_ALGORITHM: { status: 400, title: 'an answer is encrypted in a way that is not used here' },
  JWE_DECRYPT: { status: 400, title: 'an encrypted answer does not open with this key' },

  // http
  MEDIA_TYPE: { status: 415, title: 'the request is not JSON' },
  LISTEN_FAILED: { status: 500, title: 'the service cannot listen at this address' },
  LISTEN_INSECURE: { status: 500, title: 'this address needs TLS' },
  INSPECTOR_OPEN: { status: 500, title: 'the process can be debugged from outside' },

  // attestation: enrolment, evidence, policy
  ENROLMENT_REFUSED: { status: 403, title: 'the host may not enrol' },
  ENROLMENT_SECRET: {
    status: 403,
    title: 'the credential was not opened by the TPM it was made for',
  },
  ENROLMENTS_PENDING: { status: 503, title: 'too many enrolments wait for activation' },
  TICKET_INVALID: { status: 403, title: 'the enrolment ticket is unknown, used up or expired' },
  HOST_ID_TAKEN: { status: 409, title: 'another TPM is enrolled under this host id' },
  EK_TAKEN: { status: 409, title: 'this TPM is enrolled under another host id' },
  ATTESTATION_REFUSED: { status: 403, title: 'the evidence was not accepted' },
  HOST_UNKNOWN: { status: 403, title: 'no such host is enrolled' },
  HOST_NOT_APPROVED: { status: 403, title: 'the host waits for an administrator' },
  HOST_REVOKED: { status: 403, title: 'the host was revoked' },
  NONCE_UNKNOWN: { status: 403, title: 'the nonce was not given to this host' },
  NONCE_EXPIRED: { status: 403, title: 'the nonce is too old' },
  NONCE_USED: { status: 403, title: 'the nonce was used before' },
  CLOCK_WENT_BACK: { status: 403, title: 'the clock or a counter of the TPM went back' },
  EVENT_LOG_MISSING: { status: 403, title: 'the policy needs a boot event log and there is none' },
  SECURE_BOOT_OFF: { status: 403, title: 'the policy needs Secure Boot and it is not on' },
  BASE_IMAGE_NONE: { status: 403, title: 'the cluster has no base image' },
  BASE_IMAGE_PCR: { status: 403, title: 'a PCR differs from the base image' },
  HOST_LATE: { status: 403, title: 'the last attestation of the host is too old' },
  CLOCK_NOT_SAFE: { status: 403, title: 'the clock of the TPM may have gone back' },
  HOST_REBOOTED: { status: 403, title: 'the host was rebooted and the policy wants to know of it' },
  BOOT_APPLICATION: { status: 403, title: 'a boot application is not among those of the policy' },
  BOOT_KERNEL: { status: 403, title: 'the kernel is not one of the policy' },
  BOOT_COMMAND_LINE: {
    status: 403,
    title: 'the command line of the kernel is not one of the policy',
  },
  BOOT_FIRMWARE: { status: 403, title: 'the version of the firmware is not one of the policy' },
  BOOT_DBX: { status: 403, title: 'the forbidden signatures of the firmware are too old' },
  BUNDLE_VERDICT: {
    status: 403,
    title: 'a bundle of evidence leads to another verdict than it says',
  },
  POLICY_INVALID: { status: 400, title: 'the parts of a policy contradict one another' },
  EVIDENCE_NOT_VERIFIED: {
    status: 409,
    title: 'the host has given no evidence that could be verified',
  },
  ANCHOR_INSECURE: { status: 403, title: 'an insecure test anchor is not accepted in production' },

  // vm
  VM_EXISTS: { status: 409, title: 'a VM of this name exists on the host' },
  VM_NOT_FOUND: { status: 404, title: 'no VM of this name is on the host' },
  VM_RUNNING: { status: 409, title: 'the VM is running' },
  VM_STOPPED: { status: 409, title: 'the VM is not running' },
  VM_DISK_NOT_FOUND: { status: 404, title: 'the VM has no disk of this name' },
  VM_DISK_FULL: { status: 507, title: 'the host has no room for the VM' },
  VM_IMAGE: { status: 400, title: 'a file is not an image that a disk can be filled from' },
  VM_KEY_WRONG: { status: 500, title: 'an unwrapped key does not open what was made under it' },
  VM_HOME_CORRUPT: { status: 500, title: 'the home of the VM was altered or cannot be read' },
  VM_DESCRIPTOR_CORRUPT: { status: 500, title: 'a descriptor of the VM cannot be read' },
  VM_DISK_CORRUPT: { status: 500, title: 'a disk is not the volume that was made for the VM' },
  VM_PROCESS: { status: 500, title: 'a program that the VM needs failed' },
  VTPM_STATE_MISSING: { status: 500, title: 'the state of the virtual TPM is not there' },
  VTPM_STATE_CORRUPT: { status: 500, title: 'the state of the virtual TPM does not verify' },
  VTPM_STATE_ROLLBACK: { status: 500, title: 'the state of the virtual TPM is an older one' },
  VTPM_CERTIFICATE: { status: 502, title: 'a certificate of the virtual TPM is not acceptable' },

  // host agent
  AGENT_STATE: { status: 500, title: 'the state file of the agent cannot be read' },
  AGENT_NOT_ENROLLED: { status: 409, title: 'the host is not enrolled and has no ticket' },
  AGENT_NO_BINDING_KEY: { status: 409, title: 'the host has no binding key in its TPM' },
  AGENT_ANSWER: {
    status: 502,
    title: 'the key provider answered something else than was asked for',
  },
  AGENT_PCRS_UNSTABLE: { status: 503, title: 'PCRs changed while they were being quoted' },
  AGENT_PROBE: { status: 500, title: 'a key came back as another key' },

  // relying parties
  HOST_STATUS: { status: 403, title: 'the host is not trusted now' },

  // store
  STORE_IO: { status: 503, title: 'the database cannot be used' },
  STORE_VERSION: { status: 500, title: 'this SQLite loses data and is refused' },
  STORE_SCHEMA: { status: 500, title: 'the database was made by a newer program' },
  AUDIT_BROKEN: { status: 500, title: 'an audit record was changed, removed, added or moved' },
  AUDIT_TRUNCATED: { status: 500, title: 'the end of the audit chain is missing' },
  ROOT_KEY_PASSPHRASE: { status: 500, title: 'the passphrase is too short' },
  ROOT_KEY_UNSEAL: { status: 403, title: 'the passphrase does not open the root key' },
  ROOT_KEY_OPEN: { status: 500, title: 'sealed octets do not open under the root key' },

  // tpm: keys, credentials, quotes
  TPM_KEY_INVALID: { status: 400, title: 'a public key of a TPM is not valid' },
  TPM_KEY_WEAK: { status: 403, title: 'a key of a TPM is too weak' },
  TPM_KEY_ROCA: { status: 403, title: 'an RSA key is of the broken generator of CVE-2017-15361' },
  AK_RESTRICTED: { status: 403, title: 'the attestation key would sign anything' },
  AK_ATTRIBUTES: { status: 403, title: 'an attribute of the attestation key is not as it must be' },
  AK_SCHEME: { status: 403, title: 'the attestation key has no accepted signing scheme' },
  EK_TEMPLATE: { status: 403, title: 'the endorsement key follows no standard template' },
  BINDING_KEY_ATTRIBUTES: {
    status: 403,
    title: 'an attribute of the binding key is not as it must be',
  },
  BINDING_KEY_SCHEME: { status: 403, title: 'the binding key has another scheme' },
  BINDING_KEY_POLICY: { status: 403, title: 'the binding key is not tied to the quoted PCRs' },
  QUOTE_MAGIC: { status: 403, title: 'the structure was not made by a TPM' },
  QUOTE_TYPE: { status: 403, title: 'the structure is no quote' },
  QUOTE_NONCE: { status: 403, title: 'the quote carries another nonce' },
  QUOTE_BANK: { status: 403, title: 'the quote covers another bank' },
  QUOTE_SELECTION: { status: 403, title: 'the quote covers other PCRs' },
  QUOTE_PCR_VALUES: { status: 403, title: 'the PCR values are not those that were asked for' },
  QUOTE_PCR_DIGEST: { status: 403, title: 'the quote is over other PCR values' },
  QUOTE_SCHEME: { status: 403, title: 'the signature has another scheme than its key' },
  QUOTE_HASH_WEAK: { status: 403, title: 'SHA-1 is not accepted' },
  QUOTE_SIGNATURE: { status: 403, title: 'the quote is not signed by the attestation key' },
  CERTIFY_MAGIC: { status: 403, title: 'the structure was not made by a TPM' },
  CERTIFY_TYPE: { status: 403, title: 'the structure is no certification' },
  CERTIFY_NONCE: { status: 403, title: 'the certification carries another nonce' },
  CERTIFY_NAME: { status: 403, title: 'the certification is of another object' },
  CERTIFY_SCHEME: { status: 403, title: 'the signature has another scheme than its key' },
  CERTIFY_HASH_WEAK: { status: 403, title: 'SHA-1 is not accepted' },
  CERTIFY_SIGNATURE: {
    status: 403,
    title: 'the certification is not signed by the attestation key',
  },

  // native: the TPM of this host
  TPM_TCTI: { status: 500, title: 'this way to reach a TPM is not accepted' },
  TPM_LIBRARY: { status: 500, title: 'a library of tpm2-tss is not installed' },
  TPM_UNREACHABLE: { status: 503, title: 'the TPM does not answer' },
  TPM_RC: { status: 500, title: 'the TPM refused a command' },
  TPM_POLICY_FAIL: { status: 403, title: 'the PCRs are not as the policy of the key has them' },
  TPM_DECRYPT_FAILED: { status: 400, title: 'the ciphertext is not for this key of the TPM' },
  TPM_PCRS_BUSY: { status: 503, title: 'PCRs changed while they were being read' },
  TPM_ANSWER: { status: 500, title: 'the TPM answered something else than was asked' },
  TPM_BANK: { status: 500, title: 'the PCR bank is not active' },

  // eventlog
  EVENTLOG_TOO_LARGE: { status: 413, title: 'the event log or one of its events is too large' },
  EVENTLOG_TOO_MANY_EVENTS: { status: 413, title: 'the event log has too many events' },
  EVENTLOG_HEADER: { status: 400, title: 'the header of the event log is of another version' },
  EVENTLOG_ALGORITHM: {
    status: 400,
    title: 'the algorithms of the event log contradict one another',
  },
  EVENTLOG_EVENT: { status: 400, title: 'an event of the log cannot be read' },
  EVENTLOG_TIMEOUT: { status: 400, title: 'reading the event log took too long' },
  EVENTLOG_SHA1: { status: 403, title: 'the event log has SHA-1 digests alone' },
  EVENTLOG_BANK: { status: 403, title: 'the event log has no digests of the bank' },
  EVENTLOG_REPLAY: { status: 403, title: 'the event log does not replay to a quoted PCR' },
  EVENTLOG_SEPARATOR: { status: 403, title: 'a separator is missing, repeated or out of place' },
  EVENTLOG_EVENT_TYPE: {
    status: 403,
    title: 'an event has a type that is unknown or has no place in its PCR',
  },
  EVENTLOG_ORDER: { status: 403, title: 'an event stands where it cannot have happened' },
  EVENTLOG_DATA: { status: 403, title: 'the data of an event are not what was measured' },
  EVENTLOG_SECURE_BOOT: {
    status: 403,
    title: 'the Secure Boot settings in the event log contradict one another',
  },
  EVENTLOG_DEBUG_MODE: { status: 403, title: 'the firmware was in debug mode' },

  // ima
  IMALOG_TOO_LARGE: {
    status: 413,
    title: 'the measurement list or one of its entries is too large',
  },
  IMALOG_TEMPLATE: { status: 400, title: 'the template of a measurement is not known' },
  IMALOG_ENTRY: { status: 400, title: 'an entry of the measurement list cannot be read' },
  IMA_REPLAY: { status: 403, title: 'the measurement list does not replay to the quoted PCR' },
  IMA_MISSING: { status: 403, title: 'the policy needs a measurement list and there is none' },
  IMA_FROM: { status: 409, title: 'the measurement list has to be brought from its start' },
  IMA_NOT_ALLOWED: { status: 403, title: 'a file was measured that the policy does not allow' },
  IMA_VIOLATION: { status: 403, title: 'a file was changed while it was measured' },
  IMA_BOOT_AGGREGATE: { status: 403, title: 'the measurement list is of another boot' },

  // pki
  CERT_TOO_LARGE: { status: 413, title: 'the certificate or bundle is too large' },
  CERT_UNREADABLE: { status: 400, title: 'the certificate cannot be read' },
  CERT_NOT_CA: { status: 400, title: 'the certificate is not of an authority' },
  CERT_KEY_MISMATCH: { status: 400, title: 'private key and certificate are not of one key' },
  EK_CERT_UNKNOWN_CA: {
    status: 403,
    title: 'no trusted authority issued the endorsement certificate',
  },
  EK_CERT_EXPIRED: { status: 403, title: 'the endorsement certificate or an issuer is expired' },
  EK_CERT_NOT_YET_VALID: { status: 403, title: 'the endorsement certificate is not valid yet' },
  EK_CERT_EKU: { status: 403, title: 'the certificate is not for an endorsement key' },
  EK_CERT_KEY_USAGE: { status: 403, title: 'the certificate has another key usage' },
  EK_CERT_CA: { status: 403, title: 'the endorsement certificate is of an authority' },
  EK_CERT_SAN: { status: 403, title: 'the certificate does not describe a TPM' },
  EK_CERT_CRITICAL_EXTENSION: {
    status: 403,
    title: 'the certificate has an unknown critical extension',
  },
  EK_CERT_KEY_MISMATCH: { status: 403, title: 'the certificate is for another key' },

  // the lab of software TPMs
  LAB_PATH: { status: 500, title: 'the folder of the lab has too long a path for a socket' },
  LAB_PROCESS: { status: 500, title: 'a program of swtpm failed' },
  LAB_LOCALITY: { status: 500, title: 'the lab cannot boot this log' },
  LAB_BANKS: { status: 500, title: 'the log has no digests for a bank of the TPM' },

  // key provider
  KEY_ENVELOPE_MALFORMED: { status: 400, title: 'the wrapped key cannot be read' },
  KEY_ENVELOPE_AUTHENTICATION: { status: 403, title: 'the wrapped key does not open' },
  KEY_PROVIDER_OTHER: { status: 403, title: 'the key was wrapped by another provider' },
  KEY_VERSION_UNKNOWN: {
    status: 404,
    title: 'the provider has no such version of its primary key',
  },
  KEY_LENGTH: { status: 400, title: 'the key has another length' },
  KEY_HOST_STATUS: { status: 403, title: 'the host is not trusted now, or was enrolled anew' },
  KEY_STALE_POLICY: { status: 403, title: 'the token was issued under an older policy' },
  KEY_VERDICT: { status: 403, title: 'the attestation result is not affirming' },
  KEY_CLUSTER: { status: 403, title: 'the provider does not serve the cluster of the host' },
  KEY_TOKEN_AGE: { status: 403, title: 'the token is older than the provider accepts' },
  KEY_ASSURANCE: { status: 403, title: 'the assurance of the answer is too low, or cannot be had' },
  KEY_SELF_TEST: { status: 500, title: 'a cryptographic self-test failed' },
} as const satisfies Record<string, { readonly status: number; readonly title: string }>

export type ErrorCode = keyof typeof ERROR_CODES
