output "name" {
  description = "The queue's name."
  value       = aws_sqs_queue.this.name
}

output "url" {
  description = "The queue's URL, as ZAPHUB_SQS_QUEUE_URLS names it."
  value       = aws_sqs_queue.this.id
}

output "arn" {
  description = "The queue's ARN."
  value       = aws_sqs_queue.this.arn
}

output "dead_letter_name" {
  description = "The name of the dead letters' queue."
  value       = aws_sqs_queue.dead_letters.name
}

output "dead_letter_arn" {
  description = "The ARN of the dead letters' queue."
  value       = aws_sqs_queue.dead_letters.arn
}
