import type { Element } from '@xmldom/xmldom'
import type { DomainAdopt } from '../../api/libvirt.js'
import { isName } from '../../core/names.js'
import { METADATA_NAMESPACE } from './domain-xml.js'
import {
  atMostOne,
  children,
  one,
  type ParsedDisk,
  type ParsedDomain,
  type ParsedNvram,
  type ParsedTpm,
  parseDomain,
  textOf,
  unfit,
} from './parse-domain.js'

const MAX_DISKS = 16
const KIB = 1024
/** Units of libvirt in octets. */
const UNITS: Readonly<Record<string, number>> = {
  ...{ b: 1, bytes: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 },
  ...{ k: KIB, KiB: KIB, M: KIB ** 2, MiB: KIB ** 2, G: KIB ** 3, GiB: KIB ** 3 },
  ...{ T: KIB ** 4, TiB: KIB ** 4 },
}

/** A disk of a domain that is to be one of a VM. */
export interface AdoptedDisk {
  /** As the guest's place for it is called: `vda`. */
  readonly name: string
  readonly file: string
  /** File with the passphrase of a volume that is encrypted already. */
  readonly passphraseFile: string | undefined
}

/** What becomes of a domain. */
export interface Adoption {
  readonly vmId: string
  readonly name: string
  readonly memoryMib: number
  readonly cpus: number
  readonly disks: readonly AdoptedDisk[]
  /** That of the domain, a new one, or none. */
  readonly vtpm: 'keep' | 'new' | 'none'
  /** File with the variables of its firmware, where it has one. */
  readonly nvram: string | undefined
}

/**
 * Says what VM a domain becomes, or why it cannot: disks have to be single files of this host, raw or qcow2 or LUKS1 with a
 * passphrase that is told, and a TPM has to be an emulated one.
 *
 * @throws PlatformError `LIBVIRT_DOMAIN`
 */
export function planAdoption(request: DomainAdopt): Adoption {
  const domain = parseDomain(request.xml)
  if (request.xml.includes(METADATA_NAMESPACE)) throw unfit('the domain is a VM of Sigillo already')
  const { root, vmId } = domain
  const name = request.name ?? domain.name
  if (!isName(name)) {
    throw unfit(`${JSON.stringify(name.slice(0, 64))} is no name of a VM: give one with --name`)
  }
  const disks = adoptedDisks(domain, request)
  return {
    ...{ vmId, name, disks, vtpm: adoptedVtpm(domain.tpms, request.vtpm) },
    memoryMib: Math.ceil(memoryOctets(one(root, 'memory')) / KIB ** 2),
    cpus: wholeNumber(textOf(one(root, 'vcpu')), 'processors'),
    nvram: domain.nvram ? fileOfNvram(domain.nvram) : undefined,
  }
}

function adoptedDisks(domain: ParsedDomain, request: DomainAdopt): readonly AdoptedDisk[] {
  const passphrases = new Map(request.diskPassphrases?.map(({ disk, file }) => [disk, file]))
  const disks = domain.disks
    .filter(({ device }) => device !== 'cdrom' && device !== 'floppy')
    .map((disk) => adoptedDisk(disk, passphrases))
  const names = disks.map(({ name }) => name)
  if (new Set(names).size !== names.length) throw unfit('two disks have one target')
  if (disks.length > MAX_DISKS) throw unfit(`expected at most ${MAX_DISKS} disks`)
  const stranger = [...passphrases.keys()].find((disk) => !names.includes(disk))
  if (stranger !== undefined) throw unfit(`the domain has no disk ${stranger}`)
  return disks
}

function adoptedDisk(disk: ParsedDisk, passphrases: ReadonlyMap<string, string>): AdoptedDisk {
  const { element, target: name, device, type, file, format, encryption } = disk
  if (!isName(name)) throw unfit(`expected a target of a disk, found ${JSON.stringify(name)}`)
  const refuse = (why: string) => unfit(`disk ${name}: ${why}`)
  if (device !== 'disk') throw refuse(`a device of the kind ${device} is not taken`)
  if (type !== 'file' || !file) {
    throw refuse(`expected a file of this host, found the type ${type || 'none'}`)
  }
  for (const what of ['shareable', 'transient', 'mirror']) {
    if (atMostOne(element, what)) throw refuse(`one that is <${what}/> is not taken`)
  }
  const backing = atMostOne(element, 'backingStore')
  if (backing?.hasAttribute('type') || (backing && children(backing, 'source').length > 0)) {
    throw refuse('one with a backing file is not taken: merge its chain first')
  }
  const source = one(element, 'source')
  for (const what of ['slices', 'reservations', 'dataStore']) {
    if (atMostOne(source, what)) throw refuse(`a source with <${what}> is not taken`)
  }
  const passphraseFile = passphrases.get(name)
  if (!encryption) {
    if (passphraseFile !== undefined) throw refuse('it is not encrypted, and needs no passphrase')
    if (format !== 'raw' && format !== 'qcow2') {
      throw refuse(`expected the format raw or qcow2, found ${format ?? 'none'}`)
    }
  } else {
    if (encryption.format !== 'luks' || format !== 'raw') {
      throw refuse(
        `expected encryption luks of a raw disk, found ${encryption.format} of ${format}`,
      )
    }
    if (passphraseFile === undefined) {
      throw refuse(`it is encrypted: say where its passphrase is (--disk-passphrase ${name}=/file)`)
    }
  }
  return { name, file, passphraseFile }
}

function adoptedVtpm(
  tpms: readonly ParsedTpm[],
  wanted: DomainAdopt['vtpm'],
): 'keep' | 'new' | 'none' {
  const [tpm, second] = tpms
  if (second) throw unfit('expected one TPM at most')
  if (!tpm) {
    if (wanted === 'keep') throw unfit('the domain has no TPM to be kept')
    return wanted ?? 'none'
  }
  if (tpm.backend !== 'emulator' || (tpm.version ?? '2.0') !== '2.0') {
    throw unfit(`expected an emulated TPM 2.0, found ${tpm.backend} ${tpm.version ?? ''}`.trimEnd())
  }
  return wanted ?? 'keep'
}

function memoryOctets(memory: Element): number {
  const unit = memory.getAttribute('unit') ?? 'KiB'
  const octets = UNITS[unit]
  if (octets === undefined) throw unfit(`${JSON.stringify(unit)} is no unit of memory`)
  return wholeNumber(textOf(memory), 'units of memory') * octets
}

function wholeNumber(text: string, what: string): number {
  if (!/^[1-9][0-9]{0,14}$/.test(text)) throw unfit(`expected a number of ${what}`)
  return Number(text)
}

function fileOfNvram({ type, format, file, encryption }: ParsedNvram): string | undefined {
  if (type !== 'file') throw unfit(`expected a file with the NVRAM, found the type ${type}`)
  if (format !== 'raw') throw unfit(`expected raw NVRAM, found the format ${format}`)
  if (encryption) throw unfit('NVRAM that is encrypted is not taken')
  return file
}
