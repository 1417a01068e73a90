import type { StoredVm } from '../vm/vm-store.js'
import { domainDisks, domainNvram } from './domain-xml.js'
import { type ParsedDisk, type ParsedDomain, unfit } from './parse-domain.js'
import { type LibvirtSecret, vtpmSecret } from './secrets.js'

/**
 * Checks that a domain opens each disk of the VM and the variables of its firmware as what they are, and its virtual TPM. An encrypted volume that a guest
 * was given as it lies there would be noise to it, and soon to everybody.
 *
 * Says nothing of other devices: what libvirt gives to the domain beside is the business of whoever runs it.
 *
 * @throws PlatformError `LIBVIRT_DOMAIN`
 */
export function checkDomain(domain: ParsedDomain, vm: StoredVm): void {
  const { vmId, vtpm } = vm.descriptor
  const listed = new Set<ParsedDisk>()
  for (const { name, path, secret } of domainDisks(vm)) {
    const [disk, second] = domain.disks.filter(({ file }) => file === path)
    if (!disk || second) throw unfit(`expected one disk ${path} in the domain, for disk ${name}`)
    listed.add(disk)
    const expected = expectedWords(secret)
    const found = foundWords(disk)
    if (found !== expected || disk.format !== 'raw') {
      throw unfit(
        `expected disk ${name} as raw with the encryption ${expected}, found ${disk.format} with ${found}`,
      )
    }
  }
  const other = domain.disks.find(
    (disk) => !listed.has(disk) && disk.file?.startsWith(`${vm.paths.root}/`),
  )
  if (other) throw unfit(`${other.file} is no disk of the VM`)
  checkNvram(domain, vm)
  if (!vtpm) return
  const { secretId } = vtpmSecret(vmId)
  const [tpm] = domain.tpms
  if (domain.tpms.length !== 1 || tpm?.backend !== 'emulator' || tpm.secretId !== secretId) {
    throw unfit(`expected one emulated TPM whose state is encrypted by the secret ${secretId}`)
  }
}

/** A domain that has none, such as one with a BIOS, takes none of the VM. */
function checkNvram({ nvram }: ParsedDomain, vm: StoredVm): void {
  if (!nvram) return
  const { path, secret } = domainNvram(vm)
  const expected = expectedWords(secret)
  const found = foundWords(nvram)
  if (
    nvram.type === 'file' &&
    nvram.format === 'raw' &&
    nvram.file === path &&
    found === expected
  ) {
    return
  }
  throw unfit(
    `expected the NVRAM ${path} with the encryption ${expected}, found ${nvram.file ?? nvram.type} with ${found}`,
  )
}

function expectedWords(secret: LibvirtSecret | undefined): string {
  return secret ? `luks ${secret.secretId}` : 'none'
}

function foundWords({ encryption }: Pick<ParsedDisk, 'encryption'>): string {
  return encryption ? [encryption.format, ...encryption.secretIds].join(' ') : 'none'
}
