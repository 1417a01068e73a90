import type { Static, TObject, TSchema } from 'typebox'
import type { ErrorCode } from '../core/error-codes.js'
import type { Needs } from './needs.js'

/**
 * One HTTP operation: what both sides must agree on.
 *
 * Services register routes from it, the client calls by it, and OpenAPI is generated from it: there is no second
 * description anywhere.
 */
export interface Operation<
  Params extends TObject = TObject,
  Query extends TObject = TObject,
  Body extends TSchema = TSchema,
  Answer extends TSchema = TSchema,
> {
  /** `createNonce`: unique, the operationId of OpenAPI. */
  readonly id: string
  readonly summary: string
  /** What a person must have to call it; absent where it is for hosts, for anybody, or on the socket of an agent. */
  readonly needs?: Needs
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** `/attestation/v1/hosts/:hostId` */
  readonly path: string
  /** Status of success. */
  readonly status: 200 | 201 | 202
  readonly params?: Params
  readonly query?: Query
  readonly body?: Body
  readonly answer: Answer
  /** Codes that it refuses with for reasons of its own, beside those that follow from how it is called. */
  readonly errors?: readonly ErrorCode[]
  /** A body that it takes, for the OpenAPI document. */
  readonly example?: Static<Body>
}

export type ParamsOf<O> =
  O extends Operation<infer P, TObject, TSchema, TSchema> ? Static<P> : never
export type QueryOf<O> = O extends Operation<TObject, infer Q, TSchema, TSchema> ? Static<Q> : never
export type BodyOf<O> = O extends Operation<TObject, TObject, infer B, TSchema> ? Static<B> : never
export type AnswerOf<O> =
  O extends Operation<TObject, TObject, TSchema, infer A> ? Static<A> : never

/** Gives an operation literal its exact type. */
export function operation<
  P extends TObject,
  Q extends TObject,
  B extends TSchema,
  A extends TSchema,
>(description: Operation<P, Q, B, A>): Operation<P, Q, B, A> {
  return description
}
