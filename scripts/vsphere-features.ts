import { readFileSync } from 'node:fs'

/** What vSphere does with encrypted VMs, and the tests that show that Sigillo does it too. */
interface Feature {
  readonly feature: string
  /** What holds in vSphere. */
  readonly rules: string
  /** File below `test/`, and titles in it, as the test runner prints them: `describe > test`. */
  readonly tests: readonly (readonly [file: string, title: string])[]
  readonly differs?: string
}

const VM = 'integration/host-agent-vm'

const FEATURES: readonly Feature[] = [
  {
    feature: 'create encrypted VM / disk',
    rules: 'privilege to encrypt new; policy on VM and on disks; per-disk policies may differ',
    tests: [
      [
        `${VM}/create-and-read.test.ts`,
        'a VM with two disks and a virtual TPM > shows its encrypted home and its disks',
      ],
      [
        `${VM}/disks-and-clones.test.ts`,
        'a disk > is added encrypted, with a key of its own, filled from an image',
      ],
      [
        `${VM}/apply-policy.test.ts`,
        'by a change of policy > disks of one VM are encrypted and decrypted each as its policy asks',
      ],
    ],
  },
  {
    feature: 'encrypt existing',
    rules: 'VM powered off; no snapshots; needs space for a copy',
    tests: [
      [
        `${VM}/encryption.test.ts`,
        'its encryption > keeps what the guest sees, with holes as zeros',
      ],
      [`${VM}/encryption.test.ts`, 'a VM that is not encrypted > starts and stops'],
      [
        `${VM}/disk-full.test.ts`,
        'a VM that is to be encrypted anew > without room for a second copy is refused before anything is made',
      ],
    ],
  },
  {
    feature: 'decrypt',
    rules:
      'by changing the storage policy of the VM and all disks; single components: disks first, then VM home; both keys are needed',
    tests: [
      [
        `${VM}/apply-policy.test.ts`,
        'by a change of policy > a VM is decrypted: its disks first, its home last, with all that is on them',
      ],
      [`${VM}/encryption.test.ts`, 'decryption > of the home is refused while a disk is encrypted'],
      [
        `${VM}/apply-policy.test.ts`,
        'a change of policy is refused > before anything is changed, where the key of one part cannot be had: both are needed',
      ],
    ],
  },
  {
    feature: 'mixing',
    rules:
      'VM home may be encrypted with plain disks; an encrypted disk needs an encrypted VM home; a vTPM needs an encrypted VM home, not encrypted disks',
    tests: [
      [
        `${VM}/disks-and-clones.test.ts`,
        'a disk > can be added plain; and the VM starts with all of them',
      ],
      [
        `${VM}/encryption.test.ts`,
        'a VM that is not encrypted > has no disk encrypted before its home, nor its home without a key provider',
      ],
      [`${VM}/encryption.test.ts`, 'a VM with a virtual TPM > can have a plain disk'],
      [`${VM}/vtpm-add.test.ts`, 'a virtual TPM is not added > to a VM whose home is plain'],
    ],
  },
  {
    feature: 'shallow recrypt',
    rules: 'new KEK, DEK re-wrapped; also powered on; with snapshots only for a single chain',
    tests: [
      [
        `${VM}/rewrap.test.ts`,
        'keys are wrapped anew VM by VM, the old ones are released, and the VM opens as before',
      ],
      [
        `${VM}/snapshots.test.ts`,
        'a snapshot of a stopped VM > keeps what has other keys or disks from being made meanwhile; new wrapped keys serve both',
      ],
      [
        `${VM}/other-provider.test.ts`,
        'a VM that runs gets its keys wrapped by another provider, and back, with the same data keys',
      ],
    ],
  },
  {
    feature: 'deep recrypt',
    rules: 'new DEK and KEK; powered off, no snapshots',
    tests: [
      [`${VM}/encryption.test.ts`, 'new keys > are under every part, and the guest sees the same'],
      [`${VM}/encryption.test.ts`, 'new keys > open the VM, and the old ones open nothing of it'],
      [
        `${VM}/other-provider.test.ts`,
        'a VM that is stopped gets new data keys under another provider, and every older wrapped key is released',
      ],
    ],
  },
  {
    feature: 'existing disk of another VM',
    rules: 'attached and detached, also while the VM runs; encrypted as it is',
    tests: [
      [
        `${VM}/attachments.test.ts`,
        'a disk that is detached from one VM and attached to another > is the same file with the same data, under a key that is wrapped for the other VM',
      ],
      [
        `${VM}/attachments.test.ts`,
        'a VM that runs > gets an encrypted disk, loses it, and has no key of it left',
      ],
    ],
  },
  {
    feature: 'locked VM',
    rules:
      'missing key, or key server that cannot be asked: alarm, cannot be powered on, unlocked when the key is back',
    tests: [
      [
        'integration/host-keys/locked-vms.test.ts',
        'a VM whose key is gone from its host is locked with an alarm, and unlocked when it is restored',
      ],
      [
        `${VM}/locked.test.ts`,
        'a VM is unlocked by itself when its key is back, without a busy loop meanwhile',
      ],
    ],
  },
  {
    feature: 'host that is not attested any more',
    rules: 'keeps its running VMs, and cannot power any on',
    tests: [
      [
        'integration/host-keys/locked-vms.test.ts',
        'a host that is revoked learns it soon, keeps its VMs or stops them as it was told, and starts none',
      ],
    ],
  },
  {
    feature: 'clone',
    rules: 'same keys, or recrypt while cloning; vTPM copied or replaced',
    tests: [
      [
        `${VM}/disks-and-clones.test.ts`,
        'a clone > has an id, keys and a virtual TPM of its own, and the octets of its original',
      ],
      [
        `${VM}/disks-and-clones.test.ts`,
        'a clone > can have the same virtual TPM, under other keys, or none',
      ],
    ],
    differs: 'a clone always has keys of its own',
  },
  {
    feature: 'migrate',
    rules: 'encrypted while moving; cold and live within hosts that have the key',
    tests: [
      [
        'integration/host-agent/move-between-hosts.test.ts',
        'an encrypted VM moves to another host of the cluster, and to none outside',
      ],
      [
        `${VM}/export-import.test.ts`,
        'a VM that is moved > has the same id, disks and virtual TPM on the other host, and is locked on the first',
      ],
      [
        `${VM}/export-import.test.ts`,
        'an import > is refused on a host without the key, and on one of another cluster',
      ],
    ],
  },
  {
    feature: 'host encryption mode',
    rules:
      'incapable, prepared, safe (pending incapable); turned on by the first encryption task; core dumps encrypted with the host key',
    tests: [],
  },
  {
    feature: 'vTPM',
    rules:
      'add, remove, replace certificates (CSR, RSA and ECC EK); EFI firmware; VM home encrypted',
    tests: [
      [
        `${VM}/vtpm-add.test.ts`,
        'a virtual TPM that was added > has certificates for its VM, and keys of its own',
      ],
    ],
  },
  {
    feature: 'what is encrypted',
    rules:
      'disks, NVRAM, swap, memory of snapshots, core dumps, vTPM state, parts of the configuration; logs and descriptors are not',
    tests: [
      [
        `${VM}/create-and-read.test.ts`,
        'a VM with two disks and a virtual TPM > leaves only private files, and no key in any of them or in any process',
      ],
      [
        `${VM}/run.test.ts`,
        'a VM that runs > has sockets that only its owner can use, and dumps no core',
      ],
    ],
  },
]

/** The table, with the tests' names. */
export function vsphereTable(): readonly string[] {
  return [
    '| in vSphere | its rules | shown by |',
    '|---|---|---|',
    ...FEATURES.map(({ feature, rules, tests, differs }) => {
      const shown = tests.map(([file, title]) => `[${title}](../test/${file})`)
      const all = [...shown, ...(differs === undefined ? [] : [`*here: ${differs}*`])]
      return `| ${feature} | ${rules} | ${all.join('<br>') || 'not yet'} |`
    }),
  ]
}

/** Tests of the table that there are not. */
export function missingTests(): readonly string[] {
  return FEATURES.flatMap(({ tests }) => tests).flatMap(([file, title]) => {
    const source = readFileSync(`test/${file}`, 'utf8')
    const isThere = title.split(' > ').every((part) => source.includes(`('${part}'`))
    return isThere ? [] : [`${file}: ${title}`]
  })
}
