import { createHash, createPublicKey } from 'node:crypto'
import { isoTime } from '../../core/clock.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { readPage, type StoredPage } from '../../core/page.js'
import {
  type Certificate,
  parseCertificate,
  parseCertificates,
  parseRevocationList,
  type RevocationList,
  spkiOf,
  verifyEkCertificate,
  verifyRevocationList,
} from '../../pki/index.js'
import type {
  AttestationStore,
  AttestationTransaction,
  StoredAuthority,
  StoredHost,
  StoredRevocationList,
} from '../ports.js'
import { type Act, found, record, setState, tell } from './administration.js'
import { type EndorsementRules, storedTrust } from './trust.js'

/** What administrators say about who endorses TPMs. Each act is one transaction with its audit record. */
export function createEndorsers(deps: {
  readonly store: AttestationStore
  readonly rules: EndorsementRules
}) {
  const { store, rules } = deps
  return {
    /**
     * Authorities of a bundle: its roots become anchors, what is below them intermediates, unless all are to be trusted.
     *
     * @throws PlatformError of the certificate that cannot be read; `CERT_NOT_CA`, `ANCHOR_INSECURE`; `CONFLICT` where one
     *   is an authority of the other kind already: none endorses both hosts and VMs
     */
    addAuthorities: (
      act: Act,
      request: {
        readonly pem: string
        readonly trustIntermediates: boolean
        readonly insecureTest: boolean
        /** For virtual TPMs, and not for TPMs of hosts. */
        readonly forVms: boolean
      },
    ) => {
      const { insecureTest } = request
      if (insecureTest && rules.mode === 'production') return refuseTestAnchor(act)
      const [anchorRole, otherRole] = request.forVms
        ? (['vtpm', 'anchor'] as const)
        : (['anchor', 'vtpm'] as const)
      return store.transaction(async (tx) => {
        const known = new Map(
          (await tx.listAuthorities()).map((one) => [one.fingerprint, one.role]),
        )
        const authorities = parseCertificates(request.pem).map((certificate): StoredAuthority => {
          const { subject, fingerprint, notAfterMs, subjectName, issuerName } = certificate
          if (!certificate.isCa) {
            const message = `expected a certificate authority, found ${subject || 'no subject'}`
            throw new PlatformError('CERT_NOT_CA', message)
          }
          if (known.get(fingerprint) === otherRole) {
            const kind = request.forVms ? 'TPMs of hosts' : 'virtual TPMs'
            const message = `expected an authority that does not endorse ${kind}, found ${subject}`
            throw new PlatformError('CONFLICT', message)
          }
          const isAnchor = request.trustIntermediates || subjectName === issuerName
          return {
            fingerprint,
            role: isAnchor ? anchorRole : 'intermediate',
            subject,
            certificate: certificate.der,
            notAfterMs,
            insecureTest,
            addedAtMs: act.nowMs,
          }
        })
        for (const authority of authorities) {
          const { fingerprint, subject, role } = authority
          await tx.saveAuthority(authority)
          await tell(tx, act, 'anchor.added', { detail: { subject, role } })
          const detail = { subject, role, insecureTest }
          await record(tx, act, 'anchor.add', `anchor:${fingerprint}`, detail)
        }
        return authorities
      })
    },

    listAuthorities: (page: StoredPage) =>
      store.transaction((tx) =>
        readPage(
          page,
          (at) => tx.listAuthorities(at),
          ({ fingerprint }) => fingerprint,
        ),
      ),

    removeAuthority: (act: Act, fingerprint: string) =>
      store.transaction(async (tx) => {
        found(await tx.removeAuthority(fingerprint), 'anchor', fingerprint)
        await tell(tx, act, 'anchor.removed', { detail: { fingerprint } })
        await record(tx, act, 'anchor.remove', `anchor:${fingerprint}`, {})
      }),

    /**
     * Takes in the list of a known authority and revokes the hosts whose certificates it takes back.
     *
     * @throws DecodeError of `parseRevocationList`; PlatformError `CRL_ISSUER` or another code of
     *   `verifyRevocationList`, `CRL_STALE` where the one that is there is newer
     */
    addRevocationList: (act: Act, octets: Uint8Array) =>
      store.transaction(async (tx) => {
        const list = parseRevocationList(octets)
        const issuer = issuerOf(list, await tx.listAuthorities())
        const before = (await tx.listRevocationLists()).find(
          ({ issuerFingerprint }) => issuerFingerprint === issuer.fingerprint,
        )
        if (before && before.thisUpdateMs > list.thisUpdateMs) {
          const message = `expected a list that is newer than ${isoTime(before.thisUpdateMs)}`
          throw new PlatformError('CRL_STALE', message)
        }
        const stored: StoredRevocationList = {
          issuerFingerprint: issuer.fingerprint,
          list: list.der,
          thisUpdateMs: list.thisUpdateMs,
          nextUpdateMs: list.nextUpdateMs,
          addedAtMs: act.nowMs,
        }
        await tx.saveRevocationList(stored)
        const detail = {
          issuer: issuer.subject,
          certificates: list.serials.size,
          thisUpdate: isoTime(list.thisUpdateMs),
        }
        await tell(tx, act, 'revocation-list.added', { detail })
        await record(tx, act, 'revocation-list.add', `anchor:${issuer.fingerprint}`, detail)
        return { stored, revokedHosts: await revokeHostsOn(tx, act, list) }
      }),

    listRevocationLists: (page: StoredPage) =>
      store.transaction((tx) =>
        readPage(
          page,
          (at) => tx.listRevocationLists(at),
          ({ issuerFingerprint }) => issuerFingerprint,
        ),
      ),

    removeRevocationList: (act: Act, issuerFingerprint: string) =>
      store.transaction(async (tx) => {
        const known = await tx.removeRevocationList(issuerFingerprint)
        found(known, 'revocation list of', issuerFingerprint)
        await tell(tx, act, 'revocation-list.removed', { detail: { issuerFingerprint } })
        await record(tx, act, 'revocation-list.remove', `anchor:${issuerFingerprint}`, {})
      }),

    /** @throws PlatformError `CERT_UNREADABLE` where the text is neither a certificate nor a public key */
    addEndorsementKey: (act: Act, request: { readonly pem: string; readonly note: string }) =>
      store.transaction(async (tx) => {
        const key = {
          fingerprint: keyFingerprint(request.pem),
          note: request.note,
          addedAtMs: act.nowMs,
        }
        await tx.saveEndorsementKey(key)
        const { fingerprint, note } = key
        await tell(tx, act, 'endorsement-key.added', { detail: { fingerprint, note } })
        await record(tx, act, 'endorsement-key.add', `ek:${fingerprint}`, { note })
        return key
      }),

    listEndorsementKeys: (page: StoredPage) =>
      store.transaction((tx) =>
        readPage(
          page,
          (at) => tx.listEndorsementKeys(at),
          ({ fingerprint }) => fingerprint,
        ),
      ),

    removeEndorsementKey: (act: Act, fingerprint: string) =>
      store.transaction(async (tx) => {
        found(await tx.removeEndorsementKey(fingerprint), 'endorsement key', fingerprint)
        await tell(tx, act, 'endorsement-key.removed', { detail: { fingerprint } })
        await record(tx, act, 'endorsement-key.remove', `ek:${fingerprint}`, {})
      }),
  }

  async function refuseTestAnchor(act: Act): Promise<never> {
    await store.transaction((tx) =>
      tx.audit({
        atMs: act.nowMs,
        actor: act.actor,
        action: 'anchor.add',
        subject: 'anchor:insecure-test',
        outcome: 'refused',
        detail: { code: 'ANCHOR_INSECURE', mode: rules.mode },
      }),
    )
    const message = 'expected an anchor for production, found an insecure test anchor'
    throw new PlatformError('ANCHOR_INSECURE', message)
  }

  async function revokeHostsOn(
    tx: AttestationTransaction,
    act: Act,
    list: RevocationList,
  ): Promise<readonly string[]> {
    const trust = await storedTrust(tx, rules)
    const revoked: string[] = []
    for (const host of await tx.listHosts({})) {
      if (host.state === 'revoked' || !isTakenBack(host, list, trust.intermediates)) continue
      const { findings } = verifyEkCertificate({
        certificate: host.ekCertificate ?? new Uint8Array(),
        ekPublicKeySpki: new Uint8Array(),
        trust,
        now: act.nowMs,
      })
      const finding = findings.find((one) => !one.ok && one.code === 'CERT_REVOKED')
      if (!finding) continue
      const reason = `the certificate of its endorsement key was revoked: ${finding.found}`
      await setState(tx, host, 'revoked', act, true)
      await tell(tx, act, 'host.revoked', { host, detail: { reason } })
      await record(tx, act, 'host.revoke', `host:${host.hostId}`, { reason })
      revoked.push(host.hostId)
    }
    return revoked
  }
}

export type Endorsers = ReturnType<typeof createEndorsers>

/** Whether a list may concern a host: cheap, before its whole path is verified. */
function isTakenBack(
  host: StoredHost,
  list: RevocationList,
  intermediates: readonly Certificate[],
): boolean {
  if (!host.ekCertificate) return false
  const certificate = parseCertificate(host.ekCertificate)
  if (certificate.issuerName === list.issuerName) return list.serials.has(certificate.serial)
  return intermediates.some(
    ({ issuerName, serial }) => issuerName === list.issuerName && list.serials.has(serial),
  )
}

function issuerOf(list: RevocationList, authorities: readonly StoredAuthority[]): Certificate {
  let reason: PlatformError | undefined
  for (const { certificate } of authorities) {
    const authority = parseCertificate(certificate)
    const code = verifyRevocationList(list, authority)
    if (code === undefined) return authority
    if (code !== 'CRL_ISSUER') {
      const message = `expected a list that ${authority.subject} signed as it may`
      reason ??= new PlatformError(code, message)
    }
  }
  const message = `expected the list of an authority that is known here, found ${list.issuer}`
  throw reason ?? new PlatformError('CRL_ISSUER', message)
}

function keyFingerprint(pem: string): string {
  try {
    const [certificate] = pem.includes('BEGIN CERTIFICATE') ? parseCertificates(pem) : []
    const key = certificate?.publicKey ?? createPublicKey(pem)
    return createHash('sha256').update(spkiOf(key)).digest('hex')
  } catch (cause) {
    if (cause instanceof PlatformError) throw cause
    const message = `expected a certificate or a public key in PEM: ${messageOf(cause)}`
    throw new PlatformError('CERT_UNREADABLE', message, { cause })
  }
}
