import type { Finding } from '../../core/finding.js'
import { failed } from '../../core/finding.js'
import {
  type Certificate,
  parseCertificate,
  parseRevocationList,
  type Trust,
} from '../../pki/index.js'
import type { Endorsement, EndorsementTransaction, StoredAuthority } from '../ports.js'

/** What this site believes about the keys of TPMs. */
export interface EndorsementRules {
  readonly mode: 'production' | 'lab'
  /** The ways in which a key may be endorsed. */
  readonly endorsement: readonly Endorsement[]
  readonly revocation: Trust['revocation']['mode']
}

/** Whom certificates of hosts are judged by, with the marks of the site. */
export interface SiteTrust extends Trust {
  /** Fingerprints of the authorities that are for tests only. */
  readonly insecureTest: ReadonlySet<string>
}

/**
 * The authorities and lists of the store, parsed.
 *
 * @param whose authorities of hosts' TPMs, or of virtual TPMs: no authority is both, so that no VM passes as a host and no
 *   host as a VM
 */
export async function storedTrust(
  tx: EndorsementTransaction,
  rules: Pick<EndorsementRules, 'revocation'>,
  whose: 'hosts' | 'vms' = 'hosts',
): Promise<SiteTrust> {
  const authorities = await tx.listAuthorities()
  const certificatesOf = (role: StoredAuthority['role']) =>
    authorities.filter((one) => one.role === role).map((one) => parseCertificate(one.certificate))
  const lists = await tx.listRevocationLists()
  return {
    anchors: certificatesOf(whose === 'hosts' ? 'anchor' : 'vtpm'),
    intermediates: certificatesOf('intermediate'),
    revocation: {
      mode: rules.revocation,
      lists: [
        ...(whose === 'vms' ? await tx.publishedLists() : []),
        ...lists.map(({ list }) => parseRevocationList(list)),
      ],
    },
    insecureTest: new Set(
      authorities.filter((one) => one.insecureTest).map(({ fingerprint }) => fingerprint),
    ),
  }
}

/** Whether a path leads through an authority that is for tests only; in production that is a failed check. */
export function judgeMarks(
  chain: readonly Certificate[],
  trust: SiteTrust,
  mode: EndorsementRules['mode'],
): { readonly insecureTest: boolean; readonly findings: readonly Finding[] } {
  const insecureTest = chain.some(({ fingerprint }) => trust.insecureTest.has(fingerprint))
  if (!insecureTest || mode !== 'production') return { insecureTest, findings: [] }
  const expected = 'an anchor for production'
  return {
    insecureTest,
    findings: [failed('ek.anchor', 'ANCHOR_INSECURE', expected, 'an insecure test anchor')],
  }
}
