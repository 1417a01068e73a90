import { type KeyDescription, type KmipClient, KmipError } from '../kmip/index.js'

/**
 * Six custom attributes tell people at the console of a key server what a key is for. Three are set when the key is made,
 * three when it is first used. In KMIP 2.x they are attributes of the vendor `x`, so that both see the same.
 */
export interface CreationAttributes {
  readonly 'x-Vendor': string
  readonly 'x-Product': string
  readonly 'x-Product_Version': string
}

export interface UseAttributes {
  readonly 'x-Component': KeyComponent
  readonly 'x-Name': string
  readonly 'x-Identifier': string
}

/** What a key is used for: a VM, by its instance UUID; a host, by its hardware UUID; a provider, by its id. */
export type KeyComponent = 'Virtual Machine' | 'KVM Host' | 'Key Provider'

/** Of a key that is made now. @param productVersion of this program */
export function creationAttributes(productVersion: string): CreationAttributes {
  return {
    'x-Vendor': 'Sigillo',
    'x-Product': 'Sigillo Trust Authority',
    'x-Product_Version': productVersion,
  }
}

/** Of a key that is used now. */
export function useAttributes(use: {
  readonly component: KeyComponent
  readonly name: string
  readonly identifier: string
}): UseAttributes {
  return { 'x-Component': use.component, 'x-Name': use.name, 'x-Identifier': use.identifier }
}

/**
 * Gives a key attributes, as far as the key server takes them. Never throws for what the key server does or does not
 * do: the work that the key is for goes on. Where `refused` is not empty, the caller makes an event of it.
 */
export async function describeKey(
  client: KmipClient,
  keyId: string,
  attributes: Readonly<Record<string, string>> | CreationAttributes | UseAttributes,
): Promise<KeyDescription> {
  const named = { ...attributes }
  try {
    return await client.describeKey(keyId, named)
  } catch (error) {
    if (!(error instanceof KmipError)) throw error
    return { stored: [], refused: Object.keys(named), code: error.code }
  }
}
