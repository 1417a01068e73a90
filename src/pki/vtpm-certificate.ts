import { type Finding, failed, passed } from '../core/finding.js'
import { isName, isUuid } from '../core/names.js'
import type { Certificate } from './certificate.js'
import type { Trust } from './path.js'
import { urisOf } from './subject-alternative-name.js'
import { type EkCertificateVerdict, verifyEkCertificate } from './verify-ek-certificate.js'

const VM_PREFIX = 'urn:uuid:'
const HOST_PREFIX = 'urn:sigillo:host:'

/** Whom the certificate of a virtual TPM is about. */
export interface VtpmNames {
  /** The VM that the virtual TPM belongs to. */
  readonly vmId: string
  /** The host that asked for the certificate. */
  readonly hostId: string
}

export interface VtpmCertificateVerdict extends EkCertificateVerdict {
  /** Absent where the certificate does not name one VM and one host. */
  readonly names?: VtpmNames
}

/** The URIs of the subjectAltName that a certificate of a virtual TPM has. */
export function vtpmUris({ vmId, hostId }: VtpmNames): readonly string[] {
  return [`${VM_PREFIX}${vmId}`, `${HOST_PREFIX}${hostId}`]
}

/**
 * The VM and the host that a certificate names, where it names one of each. Proves nothing by itself: see
 * `verifyVtpmCertificate`.
 */
export function readVtpmNames(certificate: Certificate): VtpmNames | undefined {
  const uris = urisOf(certificate)
  const behind = (prefix: string) =>
    uris.filter((uri) => uri.startsWith(prefix)).map((uri) => uri.slice(prefix.length))
  const [vmId, ...otherVms] = behind(VM_PREFIX)
  const [hostId, ...otherHosts] = behind(HOST_PREFIX)
  if (vmId === undefined || hostId === undefined) return undefined
  const isOne = otherVms.length === 0 && otherHosts.length === 0
  return isOne && isUuid(vmId) && isName(hostId) ? { vmId, hostId } : undefined
}

/** Whether a certificate says that its key is in a virtual TPM, well or badly: such a key is no host's. */
export function isVtpmCertificate(certificate: Certificate): boolean {
  return urisOf(certificate).some((uri) => uri.startsWith(HOST_PREFIX))
}

/**
 * Verifies the certificate of the endorsement key of a virtual TPM: all that `verifyEkCertificate` does, against the
 * authorities of virtual TPMs, and that it names one VM and one host.
 *
 * **Does not check** that the virtual TPM is on that host now.
 *
 * @throws DecodeError of `parseCertificate`
 */
export function verifyVtpmCertificate(input: {
  readonly certificate: Uint8Array
  readonly ekPublicKeySpki: Uint8Array
  /** Anchors: the authorities of virtual TPMs, and no others. */
  readonly trust: Trust
  readonly now: number
}): VtpmCertificateVerdict {
  const verdict = verifyEkCertificate(input)
  const names = readVtpmNames(verdict.certificate)
  return {
    ...verdict,
    findings: [...verdict.findings, namesFinding(names)],
    ...(names ? { names } : {}),
  }
}

function namesFinding(names: VtpmNames | undefined): Finding {
  return names
    ? passed('vtpm.names', `VM ${names.vmId}, certified for host ${names.hostId}`)
    : failed(
        'vtpm.names',
        'VTPM_CERT_NAMES',
        'a VM and a host as URIs',
        'a certificate without them',
      )
}
