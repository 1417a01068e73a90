import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  afterEncryptedVm,
  type EncryptionFacts,
  isOff,
  modeOf,
  setEncryption,
} from '../../../src/control-plane/domain/encryption-mode.js'
import type { StoredEncryption } from '../../../src/control-plane/inventory-ports.js'

const facts = (
  setting: StoredEncryption['setting'],
  others: Partial<EncryptionFacts> & { readonly offAtReset?: number } = {},
): EncryptionFacts => {
  const { offAtReset, ...rest } = others
  const encryption = { setting, ...(offAtReset === undefined ? {} : { offAtReset }) }
  return { attestation: 'trusted', resetCount: 7, encryption, ...rest }
}

describe('the encryption mode of a host', () => {
  test.each<[string, EncryptionFacts, string]>([
    ['that is attested and has no encrypted VM', facts('on-demand'), 'prepared'],
    ['that is attested, once it has one', facts('on'), 'safe'],
    ['that is not attested', facts('on', { attestation: 'refused' }), 'incapable'],
    ['that is late', facts('on-demand', { attestation: 'late' }), 'incapable'],
    ['that was turned off while it was safe', facts('off', { offAtReset: 7 }), 'pending-incapable'],
    ['that was rebooted after that', facts('off', { offAtReset: 6 }), 'incapable'],
    ['that was turned off before it was ever on', facts('off'), 'incapable'],
  ])('%s', (_, host, mode) => {
    expect(modeOf(host).mode).toBe(mode)
  })

  test('says why a host is incapable', () => {
    expect(modeOf(facts('on', { attestation: 'revoked' })).reason).toBe(
      'the attestation of the host is revoked',
    )
  })
})

describe('an administrator', () => {
  test('turns encryption on before there is an encrypted VM', () => {
    expect(setEncryption(facts('on-demand'), 'on', 0)).toEqual({ setting: 'on' })
  })

  test('turns it off, and the host waits for its reboot', () => {
    const encryption = setEncryption(facts('on'), 'off', 0)
    expect(encryption).toEqual({ setting: 'off', offAtReset: 7 })
    expect(modeOf({ ...facts('off'), encryption }).mode).toBe('pending-incapable')
    expect(modeOf({ ...facts('off'), resetCount: 8, encryption }).mode).toBe('incapable')
  })

  test.each<[string, EncryptionFacts, StoredEncryption['setting'], number, string]>([
    ['off while there are encrypted VMs', facts('on'), 'off', 1, 'HOST_ENCRYPTION_IN_USE'],
    [
      'back to on-demand while there are any',
      facts('on'),
      'on-demand',
      1,
      'HOST_ENCRYPTION_IN_USE',
    ],
    ['on before the reboot', facts('off', { offAtReset: 7 }), 'on', 0, 'HOST_ENCRYPTION_PENDING'],
    [
      'on where the host is not attested',
      facts('on-demand', { attestation: 'refused' }),
      'on',
      0,
      'HOST_ENCRYPTION_INCAPABLE',
    ],
    ['to what it is', facts('off'), 'off', 0, 'CONFLICT'],
  ])('does not turn it %s', (_, host, wanted, vms, code) => {
    expect(() => setEncryption(host, wanted, vms)).toThrow(expect.objectContaining({ code }))
  })
})

test('whatever happens to a host, it is safe only while attested, and gets no keys while it is off', () => {
  const event = fc.oneof(
    fc.record({ set: fc.constantFrom('on-demand' as const, 'on' as const, 'off' as const) }),
    fc.record({ attestation: fc.constantFrom('trusted' as const, 'refused' as const) }),
    fc.constant({ reboot: true }),
    fc.constant({ encryptedVm: true }),
  )
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), (events) => {
      let host = facts('on-demand')
      let vms = 0
      for (const one of events) {
        if ('set' in one) {
          try {
            host = { ...host, encryption: setEncryption(host, one.set, vms) }
          } catch {
            continue
          }
        } else if ('attestation' in one) host = { ...host, attestation: one.attestation }
        else if ('reboot' in one) host = { ...host, resetCount: (host.resetCount ?? 0) + 1 }
        else if (['prepared', 'safe'].includes(modeOf(host).mode)) {
          vms += 1
          host = { ...host, encryption: afterEncryptedVm(host.encryption) }
        }
        const { mode } = modeOf(host)
        if (host.attestation !== 'trusted')
          expect(['incapable', 'pending-incapable']).toContain(mode)
        if (isOff(host.encryption)) expect(vms).toBe(0)
        // encrypted VMs that are there never leave the host a mere candidate
        if (vms > 0) expect(mode).not.toBe('prepared')
      }
    }),
  )
})
