import type { VmReport } from '../../api/control-plane.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import {
  parseCertificate,
  type RevocationReason,
  type RevokedCertificate,
} from '../../pki/index.js'
import type { ControlPlaneStore, ControlPlaneTransaction, StoredVm } from '../ports.js'
import type { StoredCertificate } from '../vtpm-ports.js'
import type { Act } from './inventory.js'

const HOUR_MS = 3_600_000

/** The authority of virtual TPMs, as far as lists need it. */
export interface ListSigner {
  /** SHA-256 of its certificate, hexadecimal. */
  readonly issuerFingerprint: string
  readonly sign: (list: {
    readonly number: number
    readonly thisUpdateMs: number
    readonly nextUpdateMs: number
    readonly revoked: readonly RevokedCertificate[]
  }) => Uint8Array
}

/** Who takes certificates back, and when. */
interface Revoker {
  readonly actor: string
  readonly nowMs: number
}

/**
 * Takes back certificates of virtual TPMs that are no longer in one: each with its audit record and the new list of the
 * authority, in the transaction of what happened.
 *
 * Lists are numbered by seconds, and at least by one: also a site that was put back from an older backup never signs a list
 * with a number that an earlier one of later content has.
 *
 * @param deps.listHours how long a list is valid; it is signed anew when half of that is over
 */
export function createVtpmRevocations(deps: {
  readonly store: ControlPlaneStore
  readonly signer: ListSigner
  readonly listHours: number
}) {
  const { store, signer } = deps
  const periodMs = deps.listHours * HOUR_MS

  const publish = async (tx: ControlPlaneTransaction, nowMs: number): Promise<number> => {
    const { issuerFingerprint } = signer
    const before = (await tx.findPublishedList(issuerFingerprint))?.number ?? 0
    const number = Math.max(before + 1, Math.floor(nowMs / 1000))
    const nextUpdateMs = nowMs + periodMs
    // one that has ended stays until it was on a list after its end: RFC 5280, section 3.3
    const revoked = await tx.listRevocations(nowMs - 2 * periodMs)
    const list = signer.sign({ number, thisUpdateMs: nowMs, nextUpdateMs, revoked })
    await tx.publishList({ issuerFingerprint, number, list, nextUpdateMs })
    return number
  }

  const takeBack = async (
    tx: ControlPlaneTransaction,
    vmId: string,
    taken: readonly (readonly [RevocationReason, StoredCertificate])[],
    { actor, nowMs }: Revoker,
  ): Promise<void> => {
    if (taken.length === 0) return
    for (const [reason, { fingerprint, certificate }] of taken) {
      const { serial, notAfterMs } = parseCertificate(certificate)
      await tx.saveRevocation({ fingerprint, serial, notAfterMs, reason, revokedAtMs: nowMs })
    }
    const number = await publish(tx, nowMs)
    const subject = `vm:${vmId}`
    for (const [reason, { fingerprint, kind }] of taken) {
      await tx.audit({
        ...{ atMs: nowMs, actor, action: 'vtpm.revoke-certificate', subject, outcome: 'done' },
        detail: { certificate: fingerprint, kind, reason, list: number },
      })
    }
    const isBreach = taken.some(([reason]) => reason === 'key-compromise')
    await tx.addEvent({
      ...{ atMs: nowMs, subject, type: 'vtpm.certificates-revoked' },
      severity: isBreach ? 'warning' : 'info',
      message: `certificates of a virtual TPM of VM ${vmId} taken back: ${taken.length}`,
      detail: {
        list: number,
        certificates: taken.map(([reason, { fingerprint }]) => ({ fingerprint, reason })),
      },
    })
  }

  return {
    /**
     * What the virtual TPM has no longer, by the word of the host that has the VM: certificates that newer ones for the
     * same key took the place of, and all certificates of a virtual TPM that is gone.
     *
     * Newer ones than those that it has are left alone: they are on their way into it.
     */
    ofReport: async (
      tx: ControlPlaneTransaction,
      before: StoredVm | undefined,
      { vmId, report }: Pick<StoredVm, 'vmId' | 'report'>,
      by: Revoker,
    ): Promise<void> => {
      const hadVtpm = before?.report.vtpm === true
      if (!report.vtpm && !hadVtpm) return
      const all = await tx.certificatesOf(vmId)
      const valid = all.filter(({ revocation }) => !revocation)
      const gone = report.vtpm
        ? goneBeside(valid, report.vtpmIdentity)
        : keysOf(valid, ({ issuedAtMs }) => issuedAtMs <= (before?.reportedAtMs ?? 0))
      await takeBack(
        tx,
        vmId,
        [
          ...gone.map((one) => ['cessation-of-operation', one] as const),
          ...supersededBy(valid, report.vtpmIdentity).map((one) => ['superseded', one] as const),
        ],
        by,
      )
      const old = revokedInside(all, before?.report.vtpmIdentity, report.vtpmIdentity)
      if (old.length === 0) return
      await tx.addEvent({
        ...{ atMs: by.nowMs, severity: 'warning', subject: `vm:${vmId}` },
        type: 'vtpm.certificates-returned',
        message: `the virtual TPM of VM ${report.name} has certificates that were taken back: have them replaced`,
        detail: { certificates: old.map(({ fingerprint }) => fingerprint) },
      })
    },

    /** A VM was deleted, and its virtual TPM with it. */
    ofDeleted: async (tx: ControlPlaneTransaction, vmId: string, by: Revoker): Promise<void> => {
      const valid = (await tx.certificatesOf(vmId)).filter(({ revocation }) => !revocation)
      await takeBack(
        tx,
        vmId,
        valid.map((one) => ['cessation-of-operation', one] as const),
        by,
      )
    },

    /**
     * An administrator takes a certificate back. With a key that is compromised go all certificates of that key, and none is
     * issued for it any more.
     *
     * @throws PlatformError `NOT_FOUND`, `FORBIDDEN`; `CONFLICT` where it was taken back before, unless the key turns out
     *   to be compromised
     */
    revoke: (act: Act, fingerprint: string, reason: RevocationReason) =>
      store.transaction(async (tx) => {
        const found = await tx.findCertificate(fingerprint)
        const rights = await tx.rightsOf(act)
        const { vmId } = found ?? { vmId: '' }
        rights.require(['VirtualMachine.Config.AddRemoveDevice'], await tx.placeOfVm(vmId))
        if (!found) throw new PlatformError('NOT_FOUND', `no certificate ${fingerprint}`)
        const isBreach = reason === 'key-compromise'
        const mayBeTaken = ({ revocation }: StoredCertificate) =>
          revocation === undefined || (isBreach && revocation.reason !== reason)
        if (!mayBeTaken(found)) {
          const atMs = found.revocation?.revokedAtMs ?? 0
          throw new PlatformError('CONFLICT', `it was taken back at ${isoTime(atMs)}`)
        }
        const all = isBreach ? await tx.certificatesOf(vmId) : [found]
        const taken = all.filter((one) => one.keyDigest === found.keyDigest && mayBeTaken(one))
        await takeBack(
          tx,
          vmId,
          taken.map((one) => [reason, one] as const),
          act,
        )
        return taken.map(({ fingerprint: one }) => one)
      }),

    /** The list now. Its number says which it is. */
    current: () =>
      store.transaction(async (tx) => {
        const list = await tx.findPublishedList(signer.issuerFingerprint)
        if (!list) throw new PlatformError('NOT_FOUND', 'no revocation list was signed yet')
        return list
      }),

    /** Signs a new list where there is none, or half of the time of the last one is over. */
    refresh: (nowMs: number): Promise<void> =>
      store.transaction(async (tx) => {
        const list = await tx.findPublishedList(signer.issuerFingerprint)
        if (list && list.nextUpdateMs - nowMs > periodMs / 2) return
        await publish(tx, nowMs)
      }),
  }
}

export type VtpmRevocations = ReturnType<typeof createVtpmRevocations>

type Identity = VmReport['vtpmIdentity']

/** Certificates for keys that the virtual TPM does not have: another one, which was there before. */
function goneBeside(
  valid: readonly StoredCertificate[],
  identity: Identity,
): readonly StoredCertificate[] {
  return identity ? valid.filter(({ keyDigest }) => !identity.keys.includes(keyDigest)) : []
}

/** Certificates of every key that one of those certificates is for. */
function keysOf(
  valid: readonly StoredCertificate[],
  isOne: (certificate: StoredCertificate) => boolean,
): readonly StoredCertificate[] {
  const keys = new Set(valid.filter(isOne).map(({ keyDigest }) => keyDigest))
  return valid.filter(({ keyDigest }) => keys.has(keyDigest))
}

/** Certificates that were taken back and that a virtual TPM has anew: its VM was put back from a copy, or from a snapshot. */
function revokedInside(
  all: readonly StoredCertificate[],
  before: Identity,
  now: Identity,
): readonly StoredCertificate[] {
  const had = new Set(before?.certificates)
  const has = new Set(now?.certificates.filter((fingerprint) => !had.has(fingerprint)))
  return all.filter(({ fingerprint, revocation }) => revocation && has.has(fingerprint))
}

function supersededBy(
  valid: readonly StoredCertificate[],
  identity: Identity,
): readonly StoredCertificate[] {
  if (!identity) return []
  const inside = new Set(identity.certificates)
  const present = valid.filter(({ fingerprint }) => inside.has(fingerprint))
  return valid.filter(
    (one) =>
      !inside.has(one.fingerprint) &&
      present.some(
        ({ keyDigest, kind, issuedAtMs }) =>
          keyDigest === one.keyDigest && kind === one.kind && issuedAtMs > one.issuedAtMs,
      ),
  )
}
