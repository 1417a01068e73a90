import type { VmDetails } from '../../api/host-agent.js'
import { utf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { encodeEkRequest, readCertificates, spkiOf, verifyEkCertificate } from '../../pki/index.js'
import { changeVm } from './change-vm.js'
import { requireSpace } from './disk-space.js'
import type { Following } from './part-by-part.js'
import { settleChange, stageChange } from './pending-change.js'
import type { VtpmCertifier } from './ports.js'
import { Progress } from './progress.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import type { StoredVm } from './vm-store.js'
import { checkCertificate, type VtpmCertificateName } from './vtpm-certificates.js'
import { requireVtpm, VTPM_OVERHEAD_OCTETS } from './vtpm-changes.js'
import {
  type NewCertificates,
  readVtpmIdentity,
  replaceVtpmCertificates,
  type VtpmIdentity,
} from './vtpm-replace.js'

const REPLACE_STEPS = 4
/** Largest index of a TPM's NV memory that libtpms makes. */
const MAX_NV_OCTETS = 2048

/** The two endorsement keys of a virtual TPM: RSA-2048, and P-384. */
export type EndorsementKeyKind = 'rsa' | 'ecc'

/**
 * Certificates of virtual TPMs of stopped VMs. Keys, and all that is sealed to them, stay; each change is whole or undone
 * whenever the process ends.
 *
 * Every method throws what `VmVtpms` says, `VM_PLAIN` where there is no virtual TPM, and `VTPM_STATE_…`.
 */
export interface VmVtpmCertificates {
  /** All three are issued anew by the authority of the site. @throws PlatformError `VTPM_CERTIFICATE` */
  replaceVtpmCertificates(name: string, following?: Following): Promise<VmDetails>
  /**
   * A request (PKCS#10, DER) for a certificate of an endorsement key by an authority elsewhere, and the key itself
   * (SubjectPublicKeyInfo, DER).
   */
  requestVtpmCertificate(
    name: string,
    key: EndorsementKeyKind,
  ): Promise<{ readonly request: Uint8Array; readonly publicKey: Uint8Array }>
  /**
   * Puts the certificate of an authority elsewhere in the place of the one of its endorsement key.
   *
   * @param request.authorities the authority's own certificate and those between, PEM: trusted for this certificate alone
   * @throws PlatformError `VTPM_CERTIFICATE` with all that is wrong with it; `CERT_…` where it cannot be read
   */
  importVtpmCertificate(
    name: string,
    request: { readonly certificate: string; readonly authorities: string },
    following?: Following,
  ): Promise<VmDetails>
}

export function createVtpmCertificates(
  host: VmHost,
  { certifier }: { readonly certifier: VtpmCertifier },
): VmVtpmCertificates {
  const { programs } = host

  const replace = (
    name: string,
    operation: string,
    { onProgress = () => undefined, signal }: Following,
    certify: (vm: StoredVm, identity: VtpmIdentity) => Promise<NewCertificates>,
  ): Promise<VmDetails> =>
    host.claim(name, operation, async (vm) => {
      requireVtpm(vm)
      await requireSpace(host.store.directory, VTPM_OVERHEAD_OCTETS)
      const progress = new Progress(onProgress, REPLACE_STEPS)
      const onStep = (step: string) => progress.begin(`vtpm: ${step}`)
      await host.withKeys(vm, ['home', 'vtpm'], async (home, opened) => {
        const dek = opened.of('vtpm')
        await host.vtpmStates.require(vm, dek)
        await changeVm(host, vm, { onStep, signal }, async (staged) => {
          onStep('certificates')
          const options = { programs, paths: vm.paths, staged, dek }
          const put = await replaceVtpmCertificates(options, (identity) => certify(vm, identity))
          const homeKey = opened.of('home')
          return { home, homeKey, newKeys: [], goneKeys: [], files: { put: [...put] } }
        })
      })
      const { vmId } = vm.descriptor
      host.logger.info(
        { event: `vm.${operation}`, vmId, name },
        'a virtual TPM has new certificates',
      )
      const changed = await host.store.find(name)
      await host.reports.tell(changed)
      progress.end()
      return detailsOf(changed)
    })

  return {
    replaceVtpmCertificates: (name, following = {}) =>
      replace(name, 'replace-vtpm-certificates', following, (vm, identity) =>
        issueAll(certifier, vm.descriptor.vmId, identity, host.clock.nowMs()),
      ),

    requestVtpmCertificate: (name, kind) =>
      host.claim(name, 'request-vtpm-certificate', async (vm) => {
        requireVtpm(vm)
        const { paths } = vm
        const { vmId } = vm.descriptor
        return host.withKeys(vm, ['home', 'vtpm'], async (_, opened) => {
          const dek = opened.of('vtpm')
          await host.vtpmStates.require(vm, dek)
          try {
            const staged = await stageChange(paths)
            const { keys, tpm } = await readVtpmIdentity({ programs, paths, staged, dek })
            const publicKey = keys[nameOfKey(kind)]
            const subjectAltUris = [`urn:uuid:${vmId}`]
            const request = encodeEkRequest({ publicKey, subjectName: vmId, tpm, subjectAltUris })
            return { request, publicKey }
          } finally {
            await settleChange(programs, paths)
          }
        })
      }),

    importVtpmCertificate: (name, request, following = {}) =>
      replace(name, 'import-vtpm-certificate', following, async (_, identity) =>
        acceptCertificate(request, identity, host.clock.nowMs()),
      ),
  }
}

async function issueAll(
  certifier: VtpmCertifier,
  vmId: string,
  { keys, tpm }: VtpmIdentity,
  nowMs: number,
): Promise<NewCertificates> {
  const authorityPem = await certifier.authorityPem()
  const issue = async (kind: 'ek' | 'platform', publicKeySpki: Uint8Array) => {
    const der = await certifier.certify({ vmId, kind, publicKeySpki, tpm })
    checkCertificate(der, publicKeySpki, authorityPem, nowMs)
    return der
  }
  return new Map<VtpmCertificateName, Uint8Array>([
    ['ek-rsa', await issue('ek', keys['ek-rsa'])],
    ['ek-ec', await issue('ek', keys['ek-ec'])],
    ['platform', await issue('platform', keys['ek-rsa'])],
  ])
}

/** Which VM the certificate names is its authority's matter. @throws PlatformError `VTPM_CERTIFICATE`, `CERT_…` */
function acceptCertificate(
  request: { readonly certificate: string; readonly authorities: string },
  { keys }: VtpmIdentity,
  nowMs: number,
): NewCertificates {
  const [certificate, ...more] = readCertificates(utf8(request.certificate)).all
  if (!certificate || more.length > 0) throw refused('expected one certificate')
  if (certificate.der.length > MAX_NV_OCTETS) {
    throw refused(`expected at most ${MAX_NV_OCTETS} octets, found ${certificate.der.length}`)
  }
  const spki = spkiOf(certificate.publicKey)
  const name = (['ek-rsa', 'ek-ec'] as const).find((one) => Buffer.from(keys[one]).equals(spki))
  if (!name) throw refused('is for neither of the endorsement keys')
  const { roots, all } = readCertificates(utf8(request.authorities))
  const anchors = roots.length > 0 ? roots : all
  const { findings } = verifyEkCertificate({
    certificate: certificate.der,
    ekPublicKeySpki: keys[name],
    trust: { anchors, intermediates: all, revocation: { lists: [], mode: 'present' } },
    now: nowMs,
  })
  const failed = findings.flatMap((finding) =>
    finding.ok ? [] : [`${finding.code}: expected ${finding.expected}, found ${finding.found}`],
  )
  if (failed.length > 0) throw refused(failed.join('; '))
  return new Map<VtpmCertificateName, Uint8Array>([[name, certificate.der]])
}

function nameOfKey(kind: EndorsementKeyKind): 'ek-rsa' | 'ek-ec' {
  return kind === 'rsa' ? 'ek-rsa' : 'ek-ec'
}

function refused(what: string): PlatformError {
  return new PlatformError('VTPM_CERTIFICATE', `the certificate for the virtual TPM: ${what}`)
}
