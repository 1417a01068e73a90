import { expect, test } from 'vitest'
import { decodeResponseCode, describeResponseCode } from '../../../src/tpm/index.js'

test.each([
  [0x000, 'TPM_RC_SUCCESS, 0x0'],
  [0x01e, 'TPM_RC_BAD_TAG, 0x1e'],
  [0x101, 'TPM_RC_FAILURE, 0x101'],
  [0x124, 'TPM_RC_AUTH_TYPE, 0x124'],
  [0x2c4, 'TPM_RC_VALUE (parameter 2), 0x2c4'],
  [0xfd5, 'TPM_RC_SIZE (parameter 15), 0xfd5'],
  [0x18b, 'TPM_RC_HANDLE (handle 1), 0x18b'],
  [0x98e, 'TPM_RC_AUTH_FAIL (session 1), 0x98e'],
  [0x99d, 'TPM_RC_POLICY_FAIL (session 1), 0x99d'],
  [0x084, 'TPM_RC_VALUE, 0x84'],
  [0x902, 'TPM_RC_OBJECT_MEMORY, 0x902'],
  [0x921, 'TPM_RC_LOCKOUT, 0x921'],
  [0x922, 'TPM_RC_RETRY, 0x922'],
])('names response code 0x%s', (rc, text) => {
  expect(describeResponseCode(rc)).toBe(text)
})

test.each([
  ['of the TPM that the standard does not have', 0x1ff & ~0x080],
  ['of a vendor', 0x501],
  ['of format one that the standard does not have', 0x1ff],
  ['of a layer of the software stack', 0x000a_000a],
  ['that is no response code', -1],
])('gives a code %s no name, and keeps its number', (_, rc) => {
  expect(decodeResponseCode(rc).name).toBeUndefined()
  expect(describeResponseCode(rc)).toContain(`0x${rc.toString(16)}`)
})
