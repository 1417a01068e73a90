import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly } from '../../api/common.js'
import { parseUtf8, utf8 } from '../../core/bytes.js'
import {
  type Authority,
  createAuthority,
  issueEkCertificate,
  issueRevocationList,
  openAuthority,
  parseCertificate,
  vtpmUris,
} from '../../pki/index.js'
import { loadOrCreateServiceKey, type RootKey, type Store } from '../../store/index.js'
import type { CertificateSigner } from '../domain/vtpm-certificates.js'
import type { ListSigner } from '../domain/vtpm-revocations.js'

const AuthorityPem = Exactly({ certificatePem: Type.String(), privateKeyPem: Type.String() })

/** The site's authority for virtual TPMs: made on a first start, its key kept sealed. */
export async function openVtpmAuthority(deps: {
  readonly store: Store
  readonly rootKey: RootKey
  readonly validityDays: number
  readonly nowMs: number
}): Promise<Authority> {
  const octets = await loadOrCreateServiceKey(
    deps.store,
    deps.rootKey,
    'control-plane',
    'vtpm-authority',
    async () => {
      const authority = await createAuthority({
        commonName: 'Sigillo virtual TPM authority',
        keyType: 'p384',
        validityDays: deps.validityDays,
        now: deps.nowMs,
      })
      const privateKeyPem = await authority.privateKeyPem()
      return utf8(JSON.stringify({ certificatePem: authority.certificatePem, privateKeyPem }))
    },
  )
  try {
    return await octets.use((pem) =>
      openAuthority(Value.Parse(AuthorityPem, JSON.parse(parseUtf8(pem)))),
    )
  } finally {
    octets.dispose()
  }
}

/** Certificates that name the VM, as their subject and as a URI, and the host that asked for them. */
export function vtpmSigner(
  authority: Authority,
  options: {
    readonly validityDays: number
    readonly revocationListUrl: string | undefined
    readonly nowMs: () => number
  },
): CertificateSigner {
  const { revocationListUrl } = options
  return ({ vmId, kind, publicKey, tpm, hostId }) =>
    issueEkCertificate(authority, {
      publicKey,
      subjectName: vmId,
      tpm,
      kind,
      subjectAltUris: vtpmUris({ vmId, hostId }),
      ...(revocationListUrl === undefined ? {} : { revocationListUrl }),
      validityDays: options.validityDays,
      now: options.nowMs(),
    })
}

/** Revocation lists of the same authority. */
export function vtpmListSigner(authority: Authority): ListSigner {
  return {
    issuerFingerprint: parseCertificate(authority.certificateDer).fingerprint,
    sign: (list) => issueRevocationList(authority, list),
  }
}
