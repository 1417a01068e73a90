/** What becomes of the files of other projects. The first rule whose pattern a file matches is its own. */
export interface VectorRule {
  readonly files: RegExp
  /** Test that has the verdict of the manifest, below `test/`. */
  readonly test?: string
  /** Or why there is none. */
  readonly reason?: string
}

const EVENT_LOGS = 'vectors/event-logs-of-others.test.ts'
const EVENT_CONTENTS = 'vectors/event-log-contents.test.ts'
const ATTESTATION = 'vectors/tpm-attestation.test.ts'
const CERTIFICATES = 'vectors/certificates.test.ts'
const IMA = 'vectors/ima-lists.test.ts'
const DERIVATION = 'vectors/tpm-derivation.test.ts'

/** Of `attestation`. */
export const ATTESTATION_VECTORS: readonly VectorRule[] = [
  { files: /(^|\/)(LICENSE(\.md)?|MANIFEST\.md|Makefile)$/, reason: 'no data' },

  // bundles of evidence
  { files: /^MasterKale_SimpleWebAuthn\//, test: ATTESTATION },
  { files: /trustee\/deps\/verifier\/test_data\/tpm_evidence\.json$/, test: ATTESTATION },
  {
    files: /az-(snp|tdx)-vtpm\/(tpm-quote-v1\.json|evidence-\w+\.json|hcl-report\.bin)$/,
    test: ATTESTATION,
  },
  {
    files: /az-(snp|tdx)-vtpm\//,
    reason:
      'reports and certificates of SEV-SNP and TDX, which are not judged here; and the quote of the JSON beside them again, in binary',
  },
  {
    files: /trustee\/attestation-service\/docs\/example\.token\.json$/,
    reason: 'a token of another service, with its own claims',
  },
  { files: /google_go-tpm-tools\/internal\/test\/attestations\//, test: ATTESTATION },
  { files: /google_go-attestation\/ak-creation-vectors\.json$/, test: ATTESTATION },
  { files: /windows_gcp_shielded_vm\.json$/, test: ATTESTATION },
  {
    files: /keylime_keylime\/test-data\/files\/(quote|quotesig|quotepcr)\.out$/,
    test: ATTESTATION,
  },
  { files: /keylime_keylime\/test-data\/files\/(ak\.pub|ak\.name)$/, test: ATTESTATION },
  {
    files: /(akpub\.pem|basic\.json|evidence\.diag)$/,
    reason: 'another form of the file beside it',
  },
  { files: /rust-keylime\/keylime\/test-data\/test-quote\.txt$/, test: ATTESTATION },
  { files: /veraison_services\/scheme\/tpm-enacttrust\//, test: ATTESTATION },
  { files: /veraison_services\/scheme\/parsec-tpm\/test\/evidence\//, test: ATTESTATION },
  { files: /nsacyber_HIRS\/.*\/tpm2\/(ak|ek)\.pub$/, test: ATTESTATION },
  {
    files: /nsacyber_HIRS\/.*\/tpm2\/(ak\.name|(ak|ek)\.mod)$/,
    reason: 'the moduli are in the public areas; the name is not that of the key beside it',
  },
  {
    files:
      /keylime_keylime\/test-data\/files\/(ek\.pub|ekpub\.pem|mkcred\.out|actcred\.out|secret\.data|nv\.data)$/,
    reason:
      'a credential for a TPM whose seed nobody has; credentials are tested with go-tpm’s vectors and with tpm2-tools',
  },
  {
    files: /allowlist-invalid-sig\.sig$/,
    reason: 'a detached PGP signature of an allow list: policies are not signed so',
  },
  {
    files: /elchecking\/example_reference_state\.json$/,
    reason: 'the policy of another verifier, in its own words',
  },

  // event logs
  { files: /^replay-results\.json$/, test: EVENT_LOGS },
  { files: /^google_go-(attestation|tpm-tools)\/expected-pcrs\.json$/, test: EVENT_LOGS },
  { files: /^google_go-attestation\/attest\/testdata\//, test: EVENT_LOGS },
  { files: /^google_go-eventlog\/testdata\/legacydata\//, test: EVENT_CONTENTS },
  { files: /^google_go-eventlog\/testdata\//, test: EVENT_LOGS },
  { files: /^google_go-tpm-tools\/internal\/test\/eventlogs\//, test: EVENT_LOGS },
  {
    files: /^google_go-tpm-tools\/agent\/testdata\/cel\.b64$/,
    reason: 'a canonical event log of containers (CEL-TLV), which no host of ours writes',
  },
  { files: /trustee\/deps\/eventlog\/test_data\//, test: EVENT_CONTENTS },
  { files: /keylime_keylime\/test\/data\/(create-mb-policy\/|mb_log\.b64)/, test: EVENT_LOGS },
  { files: /rust-keylime\/keylime\/test-data\/uefi_log\.bin$/, test: EVENT_LOGS },
  { files: /tpm2-tools\/test\/integration\/fixtures\/event-pretty\//, test: EVENT_CONTENTS },
  {
    files: /fixtures\/(event-(pretty-39|raw)\/|.*-hex\.yaml$|.*\.bin\.(warn|yaml)$)/,
    reason: 'other forms of print of the same logs, by older programs or without contents',
  },
  { files: /tpm2-tools\/test\/integration\/fixtures\//, test: EVENT_LOGS },
  { files: /nsacyber_HIRS\/.*\/TpmLog2?\.bin$/, test: EVENT_LOGS },
  { files: /nsacyber_HIRS\/.*\.rimel$/, test: EVENT_CONTENTS },
  {
    files: /nsacyber_HIRS\/.*\.swidtag$/,
    reason: 'reference manifests as SWID tags (XML): CoRIM is what is read here',
  },

  // IMA
  {
    files: /^ima-replay-results\.json$/,
    reason: 'its values stand in the manifest, and in the test from there',
  },
  { files: /rust-keylime\/.*(ascii_runtime_measurements|ima_log\.txt)$/, test: IMA },
  { files: /create-runtime-policy\/ima-log-/, test: IMA },
  {
    files: /create-runtime-policy\/(allowlist|policy)-/,
    reason: 'allow lists of keylime, in its own form: policies have theirs',
  },

  // certificates
  { files: /nsacyber_HIRS\/.*\/certificates\//, test: CERTIFICATES },
  { files: /nsacyber_HIRS\/\.ci\/setup\/certs\/ek_cert\.der$/, test: CERTIFICATES },
  {
    files: /google_go-tpm-tools\/(internal\/test\/certificates|server\/ca-certs)\//,
    test: CERTIFICATES,
  },
  { files: /google_go-tpm-tools\/server\/secure-boot\/.*\.(crt|bin)$/, test: CERTIFICATES },
  { files: /keylime_keylime\/tpm_cert_store\/.*\.pem$/, test: CERTIFICATES },
  { files: /iak_idevid_chain\.pem$/, test: CERTIFICATES },
  { files: /^loicsikidi_tpm-ca-certificates\//, test: CERTIFICATES },
  {
    files: /(google_go-attestation\/attributecert\/testdata|platform_credentials)\/.*\.cer$/,
    test: CERTIFICATES,
  },
  {
    files: /(google_go-attestation\/attributecert|platform_credentials)/,
    reason:
      'platform attribute certificates, which are not read yet; those in DER are shown to be refused',
  },
  {
    files: /ima_keys\/rsa2048pub\.pem$/,
    reason: 'a key whose signatures are not among the files',
  },
  {
    files: /rust-keylime\/keylime\/test-data\/prime256v1\.cert\.pem$/,
    reason: 'a TLS certificate of a test, of no TPM',
  },

  // key derivation
  { files: /^google_go-tpm\/tpm2\/test\/testvectors\//, test: DERIVATION },
]

/** Of `measured-boot`, which is ours and in this repository. */
export const MEASURED_BOOT_VECTORS: readonly VectorRule[] = [
  { files: /^(MANIFEST\.md|inputs\/)/, reason: 'how they were made' },
  { files: /^ca\//, test: CERTIFICATES },
  { files: /(ek-rsa-cert|ek-ecc384-cert|platform-cert)\.der$/, test: CERTIFICATES },
  { files: /\/binary_bios_measurements$/, test: 'vectors/event-logs.test.ts' },
  {
    files: /\/eventlog\.tpm2-tools\.yaml$/,
    reason: 'a print of the log beside it; expected.json has the values that are compared',
  },
  { files: /_runtime_measurements$/, test: IMA },
  {
    files: /\/(quote(-rsa)?\.(msg|sig)|akr?\..*|pcrs\.sha256\.bin|expected\.json)$/,
    test: 'vectors/tpm-quotes.test.ts',
  },
  {
    files:
      /\/(ek\.(pem|tpm2b_public)|efivar-.*\.bin|cmdline\.txt|dmesg-excerpt\.txt|cap-fixed\.txt|pcrread(-all)?\.txt)$/,
    reason: 'context of the boot; what of it was measured is in the log',
  },
]
