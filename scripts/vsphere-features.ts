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
const SITE = 'integration/control-plane'
const POLICIES = `${SITE}/storage-policies.test.ts`

const FEATURES: readonly Feature[] = [
  {
    feature: 'create encrypted VM / disk',
    rules: 'privilege to encrypt new; policy on VM and on disks; per-disk policies may differ',
    tests: [
      [POLICIES, 'a VM > is made as the policies of its home and of each disk ask'],
      ['integration/tasks/lifecycle.test.ts', 'a VM goes through its whole life by tasks alone'],
      [
        `${VM}/disks-and-clones.test.ts`,
        'a disk > is added encrypted, with a key of its own, filled from an image',
      ],
    ],
  },
  {
    feature: 'encrypt existing',
    rules: 'VM powered off; no snapshots; needs space for a copy',
    tests: [
      [POLICIES, 'a VM > is encrypted by a change of policy: its home first'],
      [POLICIES, 'refused at once, before there is a task, is > a VM that runs'],
      [POLICIES, 'refused at once, before there is a task, is > a VM with snapshots'],
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
        POLICIES,
        'a VM > is decrypted by a change of policy: its disks first, its home last, with what is on them',
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
        `${VM}/apply-policy.test.ts`,
        'by a change of policy > disks of one VM are encrypted and decrypted each as its policy asks',
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
        `${VM}/other-provider.test.ts`,
        'its own provider wraps the keys of one VM anew, while it runs',
      ],
      [
        `${VM}/other-provider.test.ts`,
        'a VM that runs gets its keys wrapped by another provider, and back, with the same data keys',
      ],
      [
        'integration/host-keys/change-provider.test.ts',
        'a VM goes from a trusted provider to a native one while it runs, and back with new data keys',
      ],
    ],
    differs: 'with any snapshots',
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
    differs: 'a clone always has data keys of its own',
  },
  {
    feature: 'migrate',
    rules: 'encrypted while moving; cold and live within hosts that have the key',
    tests: [
      ['integration/tasks/migrate.test.ts', 'a stopped VM is moved to another host by one command'],
      ['integration/tasks/migrate.test.ts', 'a VM that runs is moved while it runs'],
      [
        'integration/host-agent/move-between-hosts.test.ts',
        'an encrypted VM moves to another host of the cluster, and to none outside',
      ],
      [
        `${VM}/export-import.test.ts`,
        'an import > is refused on a host without the key, and on one of another cluster',
      ],
      [
        `${VM}/live.test.ts`,
        'a VM that runs > moves with its memory, virtual TPM and snapshots while its guest goes on',
      ],
      [
        `${VM}/live.test.ts`,
        'a VM that runs > does not move to a host without its key, of another cluster, or without its storage',
      ],
    ],
    differs: 'live where both hosts have the storage',
  },
  {
    feature: 'host encryption mode',
    rules:
      'incapable, prepared, safe (pending incapable); turned on by the first encryption task; core dumps encrypted with the host key',
    tests: [
      [
        `${SITE}/inventory.test.ts`,
        'the encryption mode of a host > is prepared once the host is attested, and told of by an event',
      ],
      [
        `${SITE}/inventory.test.ts`,
        'the encryption mode of a host > stays prepared with a plain VM, and is safe with the first encrypted one',
      ],
      [
        `${SITE}/inventory.test.ts`,
        'the encryption mode of a host > turned off, a host gets no keys, erases what it has, and encrypts nothing',
      ],
      [
        'integration/host-keys/core-dumps.test.ts',
        'the core of a process that crashed is sealed by who has no secret, and opened by the host alone',
      ],
    ],
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
      [
        `${VM}/vtpm-certificates.test.ts`,
        'certificates that the site issues anew > are for the keys that the virtual TPM had and has',
      ],
      [
        `${VM}/vtpm-certificates.test.ts`,
        'a certificate by an authority elsewhere > takes the place of that of its key, and of no other',
      ],
      [
        `${VM}/encryption.test.ts`,
        'a VM with a virtual TPM > is not decrypted before that TPM is removed',
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
      [
        'integration/host-keys/core-dumps.test.ts',
        'the core of a process that crashed is sealed by who has no secret, and opened by the host alone',
      ],
      [
        `${VM}/nvram.test.ts`,
        'a variable that a guest writes > is in no file of its VM, while that runs and after it',
      ],
      [
        `${VM}/nvram.test.ts`,
        'firmware variables go with the home of their VM > they are plain when it is, and encrypted with it',
      ],
      [
        'integration/libvirt/start.test.ts',
        'a VM that is defined in libvirt > has its firmware variables encrypted while it runs',
      ],
      [`${VM}/run.test.ts`, 'memory of a VM is kept in RAM where the agent is told to'],
      [
        `${VM}/memory-snapshots.test.ts`,
        'a snapshot of a VM that runs > keeps its memory, encrypted, while its guest goes on',
      ],
    ],
  },
  {
    feature: 'locked VMs',
    rules:
      'a VM whose key is missing is locked, with an alarm, and can be unlocked when it is back',
    tests: [
      [
        'integration/host-keys/locked-vms.test.ts',
        'a VM whose key is gone from its host is locked with an alarm, and unlocked when it is restored',
      ],
    ],
  },
  {
    feature: 'unattested hosts',
    rules: 'keep their running VMs and power none on',
    tests: [
      [
        'integration/host-keys/locked-vms.test.ts',
        'a host that is revoked learns it soon, keeps its VMs or stops them as it was told, and starts none',
      ],
    ],
  },
  {
    feature: 'privileges',
    rules:
      'Cryptographer.*, one to one; the administrator of the trust authority is not that of workloads',
    tests: [
      [
        'integration/people/matrix.test.ts',
        'who has exactly the privileges of an operation is let through, and refused what needs others',
      ],
      [
        'integration/people/matrix.test.ts',
        'who has every privilege but one is refused what needs it, and nothing else',
      ],
      [
        'integration/people/matrix.test.ts',
        'neither the administrator of workloads nor that of the trust authority can do an act of the other',
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
