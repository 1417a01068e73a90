import {
  DESTROY_ACTION,
  INTEROP_FUNCTION,
  OPERATION,
  QUERY_FUNCTION,
  RNG_ALGORITHM,
  RNG_MODE,
  SHREDDING_ALGORITHM,
  UNWRAP_MODE,
} from '../../enumerations.js'
import { TAG } from '../../tags.js'
import {
  boolean,
  children,
  enumeration,
  structure,
  type Ttlv,
  textString,
  typedValue,
  valueAt,
} from '../../ttlv.js'
import { compareVersions, versionFromTtlv, versionToTtlv } from '../../version.js'
import type { Answer, Call, Operation } from '../call.js'
import { OBJECT_TYPES } from '../object.js'
import { KmipRefusal } from '../refusal.js'

/** @see KMIP 2.1 Specification, clause 6.1.14 */
export const DISCOVER_VERSIONS: Operation = {
  operation: OPERATION.DiscoverVersions,
  since: { major: 1, minor: 1 },
  fields: [TAG.ProtocolVersion],
  run: discoverVersions,
}

/** @see KMIP 2.1 Specification, clause 6.1.37 */
export const QUERY: Operation = {
  operation: OPERATION.Query,
  since: { major: 1, minor: 0 },
  fields: [TAG.QueryFunction],
  run: query,
}

/** @see KMIP 2.1 Specification, clause 6.1.34 */
export const PING: Operation = {
  operation: OPERATION.Ping,
  since: { major: 2, minor: 1 },
  fields: [],
  run: () => ({ items: [] }),
}

/**
 * Says where a test of interoperability begins and ends, which changes nothing here.
 *
 * @see KMIP 2.1 Specification, clause 6.1.25
 */
export const INTEROP: Operation = {
  operation: OPERATION.Interop,
  since: { major: 2, minor: 1 },
  fields: [TAG.InteropFunction, TAG.InteropIdentifier],
  run: ({ payload }) => {
    valueAt(payload, TAG.InteropIdentifier, 'TextString')
    if (valueAt(payload, TAG.InteropFunction, 'Enumeration') === INTEROP_FUNCTION.Reset) {
      throw new KmipRefusal('FeatureNotSupported', 'this server is reset by a new start')
    }
    return { items: [] }
  },
}

/** Those that the client names and we speak, best first; all of ours when it names none. */
function discoverVersions({ payload, server }: Call): Answer {
  const theirs = children(payload, TAG.ProtocolVersion).map(versionFromTtlv)
  const common = server.versions.filter(
    (one) => theirs.length === 0 || theirs.some((other) => compareVersions(one, other) === 0),
  )
  return { items: common.map(versionToTtlv) }
}

const F = QUERY_FUNCTION
/** In the order of the answer. */
const ANSWERS: readonly (readonly [number, (call: Call) => readonly Ttlv[]])[] = [
  [F.QueryOperations, operations],
  [F.QueryObjects, () => OBJECT_TYPES.map((type) => enumeration(TAG.ObjectType, type))],
  [F.QueryServerInformation, serverInformation],
  [F.QueryApplicationNamespaces, () => []],
  [F.QueryExtensionList, () => []],
  [F.QueryExtensionMap, () => []],
  [F.QueryAttestationTypes, () => []],
  [F.QueryRNGs, randomNumberGenerators],
  [F.QueryValidations, () => []],
  [F.QueryProfiles, () => []],
  [F.QueryCapabilities, capabilities],
  [F.QueryClientRegistrationMethods, () => []],
  [F.QueryDefaultsInformation, () => []],
  [F.QueryStorageProtectionMasks, () => []],
]

function query(call: Call): Answer {
  const functions = children(call.payload, TAG.QueryFunction).map((item) =>
    typedValue(item, 'Enumeration'),
  )
  if (functions.length === 0) throw new KmipRefusal('InvalidMessage', 'nothing is asked for')
  const unknown = functions.some((one) => !ANSWERS.some(([known]) => known === one))
  if (unknown) throw new KmipRefusal('InvalidField', 'expected a query function of the standard')
  return {
    items: ANSWERS.flatMap(([known, answer]) => (functions.includes(known) ? answer(call) : [])),
  }
}

function operations({ server, version }: Call): readonly Ttlv[] {
  return server.operations
    .filter(({ since }) => compareVersions(since, version) <= 0)
    .map(({ operation }) => enumeration(TAG.Operation, operation))
}

function serverInformation(): readonly Ttlv[] {
  return [
    textString(TAG.VendorIdentification, 'Sigillo reference server'),
    structure(TAG.ServerInformation, []),
  ]
}

function randomNumberGenerators(): readonly Ttlv[] {
  return [structure(TAG.RNGParameters, [enumeration(TAG.RNGAlgorithm, RNG_ALGORITHM.Unspecified)])]
}

function capabilities(): readonly Ttlv[] {
  return [
    structure(TAG.CapabilityInformation, [
      boolean(TAG.StreamingCapability, false),
      boolean(TAG.AsynchronousCapability, false),
      boolean(TAG.AttestationCapability, false),
      boolean(TAG.BatchUndoCapability, true),
      boolean(TAG.BatchContinueCapability, true),
      enumeration(TAG.UnwrapMode, UNWRAP_MODE.NotProcessed),
      enumeration(TAG.DestroyAction, DESTROY_ACTION.KeyMaterialShredded),
      enumeration(TAG.ShreddingAlgorithm, SHREDDING_ALGORITHM.Unspecified),
      enumeration(TAG.RNGMode, RNG_MODE.Unspecified),
    ]),
  ]
}
