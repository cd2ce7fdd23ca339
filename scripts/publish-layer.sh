#!/bin/bash
# Publishes dist/layer.zip in the named regions, in the account whose credentials the AWS CLI finds, and writes each ARN
# into SSM parameters. A region that has this version already is left alone, so a run that broke off can be run again.
#
#   npm run build && scripts/publish-layer.sh eu-central-1 us-east-1
#
# Variables:
#   LAYER_NAME        default middy-post-invoke
#   SSM_PREFIX        default /middy-post-invoke: the ARN stands in PREFIX/VERSION and in PREFIX/latest
#   SIGNING_PROFILE   a signing profile of AWS Signer for AWS Lambda, by the same name in each region. Without it the layer
#                     is not signed.
#   SIGNING_BUCKET    with a profile: the beginning of the name of a versioned bucket in each region, BUCKET-REGION
set -euo pipefail
shopt -s inherit_errexit # or a failure inside of $(…) would go unseen
cd "$(dirname "${BASH_SOURCE[0]}")/.."

zip=dist/layer.zip
layer_name=${LAYER_NAME:-middy-post-invoke}
ssm_prefix=${SSM_PREFIX:-/middy-post-invoke}
signing_profile=${SIGNING_PROFILE:-}
signing_bucket=${SIGNING_BUCKET:-}

main() {
  local region
  (($# > 0)) || die 'Expected at least one region.'
  [[ -e $zip ]] || die "Expected $zip, which npm run build makes."
  [[ -z $signing_profile || -n $signing_bucket ]] || die 'Expected SIGNING_BUCKET beside SIGNING_PROFILE.'
  for region; do
    [[ $region =~ ^[a-z]{2}(-[a-z]+)+-[0-9]+$ ]] || die "Expected regions, got $region."
  done
  version=$(node -p 'require("./package.json").version')
  for region; do
    publish "$region"
  done
}

publish() {
  local region=$1 arn signed content=()
  if arn=$(published "$region"); then
    report "$region" "$arn" 'there already'
    return
  fi
  if [[ -n $signing_profile ]]; then
    signed=$(sign "$region")
    content=(--content "$signed")
  else
    content=(--zip-file "fileb://$zip")
  fi
  arn=$(aws lambda publish-layer-version --region "$region" \
    --layer-name "$layer_name" \
    --description "middy-post-invoke $version" \
    --license-info MIT \
    "${content[@]}" \
    --compatible-runtimes nodejs22.x nodejs24.x nodejs26.x \
    --compatible-architectures x86_64 arm64 \
    --query LayerVersionArn --output text)
  # The version's own parameter comes last: it says that all is done.
  remember "$region" latest "$arn" --overwrite
  remember "$region" "$version" "$arn"
  report "$region" "$arn" published
}

# published REGION: the ARN of this version. It fails where there is none, and ends the script where that cannot be known.
published() {
  local answer
  if answer=$(aws ssm get-parameter --region "$1" --name "$ssm_prefix/$version" \
    --query Parameter.Value --output text 2>&1); then
    echo "$answer"
    return
  fi
  [[ $answer == *ParameterNotFound* ]] || die "$answer"
  return 1
}

# sign REGION: where the signed zip is, as publish-layer-version takes it.
sign() {
  local region=$1 bucket="$signing_bucket-$1" key="unsigned/$layer_name-$version.zip" object job signed
  object=$(aws s3api put-object --region "$region" --bucket "$bucket" --key "$key" --body "$zip" \
    --query VersionId --output text)
  [[ $object != None && $object != null ]] || die "Expected the bucket $bucket to have versioning, which AWS Signer needs."
  job=$(aws signer start-signing-job --region "$region" --profile-name "$signing_profile" \
    --source "s3={bucketName=$bucket,key=$key,version=$object}" \
    --destination "s3={bucketName=$bucket,prefix=signed/}" \
    --query jobId --output text)
  aws signer wait successful-signing-job --region "$region" --job-id "$job"
  signed=$(aws signer describe-signing-job --region "$region" --job-id "$job" --query signedObject.s3.key --output text)
  echo "S3Bucket=$bucket,S3Key=$signed"
}

remember() {
  local region=$1 name=$2 arn=$3
  shift 3
  aws ssm put-parameter --region "$region" --name "$ssm_prefix/$name" --type String --value "$arn" \
    --description "The ARN of the layer of middy-post-invoke, $name." "$@" >/dev/null
}

report() {
  echo "$1 $2 ($3)"
  [[ -z ${GITHUB_STEP_SUMMARY:-} ]] || echo "- \`$2\` ($3)" >>"$GITHUB_STEP_SUMMARY"
}

die() {
  echo "$1" >&2
  kill -TERM $$ # also out of a command substitution
  exit 1
}

trap 'exit 1' TERM
main "$@"
